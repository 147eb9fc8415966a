from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label, regionprops

from karyon.instances import Instances
from karyon.losses import BinaryCrossEntropy
from karyon.representations.foreground.loss import Foreground
from karyon.representations.foreground.postprocessing import ForegroundPostprocessing, WatershedPostprocessing


def test_loss_is_that_of_the_foreground() -> None:
    labels = torch.tensor([[[0, 3], [1, 0]]])
    output = torch.randn(1, 1, 2, 2)
    target = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]])
    loss = BinaryCrossEntropy()
    torch.testing.assert_close(Foreground(loss).loss(output, labels), loss(output, target))


@pytest.mark.parametrize(("method", "connectivity"), [(ForegroundPostprocessing, 2), (WatershedPostprocessing, 1)])
@settings(max_examples=40)
@given(probability=hnp.arrays(np.float32, (12, 14), elements=st.floats(0, 1, width=32)), min_area=st.integers(0, 8))
def test_objects_are_scikit_images_components(
    method: Any, connectivity: int, probability: np.ndarray, min_area: int
) -> None:
    """A watershed from seeds of the foreground's own threshold too."""
    found = method(threshold=0.5, min_area=min_area)(probability[None])
    regions = regionprops(label(probability >= 0.5, connectivity=connectivity), probability)
    regions = [region for region in regions if region.area >= min_area]
    assert len(found) == len(regions)
    for k, region in enumerate(regions):
        y0, x0, y1, x1 = region.bbox
        assert found.boxes[k].tolist() == [x0, y0, x1, y1]
        assert (found.labels == k + 1).sum() == region.area
        assert found.scores[k] == pytest.approx(region.intensity_mean, abs=1e-5)


def test_shrunk_maps_keep_their_mean() -> None:
    maps = np.zeros((1, 8, 8), np.float32)
    maps[:, 2:6, 2:6] = 1
    shrunk = ForegroundPostprocessing().resize(maps, (4, 4))
    # Smoothed before shrinking, though a pixel of four lies inside.
    assert shrunk.shape == (1, 4, 4) and shrunk.mean() == pytest.approx(0.25, abs=0.03)


def test_a_gap_in_a_membrane_parts_at_a_higher_threshold() -> None:
    # Two cells, a membrane between them, and a gap of one pixel in it.
    cells = np.full((1, 20, 31), 0.9, np.float32)
    cells[0, :, 15], cells[0, 10, 15] = 0.1, 0.6
    assert len(WatershedPostprocessing(threshold=0.5, seed_threshold=0.5)(cells)) == 1
    parted = WatershedPostprocessing(threshold=0.5, seed_threshold=0.7)(cells)
    # The gap belongs to one of them: all of the foreground is kept.
    assert len(parted) == 2 and np.array_equal(parted.labels > 0, cells[0] >= 0.5)
    assert len(WatershedPostprocessing(threshold=0.65)(cells)) == 2


def test_cells_are_four_connected_and_hold_a_seed() -> None:
    corners = np.float32([[[0.9, 0.1], [0.1, 0.9]]])
    assert WatershedPostprocessing()(corners).labels.tolist() == [[1, 0], [0, 2]]
    faint = np.float32([[[0.6, 0.1, 0.9]]])
    assert WatershedPostprocessing(seed_threshold=0.8)(faint).labels.tolist() == [[0, 0, 1]]


def test_instances_from_labels() -> None:
    instances = Instances.from_labels(np.array([[1, 1, 0], [0, 2, 0]]), np.array([0.5, 0.25]))
    assert instances.boxes.tolist() == [[0, 0, 2, 1], [1, 1, 2, 2]]
    assert instances.scores.tolist() == [0.5, 0.25]
    assert Instances.from_labels(np.zeros((2, 2), int)).boxes.shape == (0, 4)
