import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label, regionprops

from lightning_modules.instances import Instances
from lightning_modules.losses import BinaryCrossEntropy
from lightning_modules.representations.foreground import Foreground, ForegroundDecoder, WatershedDecoder


def logit(probability: torch.Tensor) -> torch.Tensor:
    return torch.logit(probability, eps=1e-6)


def test_loss_is_that_of_the_foreground() -> None:
    labels = torch.tensor([[[0, 3], [1, 0]]])
    output = torch.randn(1, 1, 2, 2)
    target = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]])
    torch.testing.assert_close(
        Foreground(BinaryCrossEntropy()).loss(output, labels), BinaryCrossEntropy()(output, target)
    )


def test_encoded_discs_are_decoded_again() -> None:
    rows, columns = np.mgrid[:60, :80]
    truth = np.zeros((60, 80), np.int64)
    for k, (y, x, r) in enumerate([(15, 15, 8), (40, 30, 12), (20, 60, 9)], start=1):
        truth[(rows - y) ** 2 + (columns - x) ** 2 < r**2] = k
    output = logit(torch.from_numpy((truth > 0).astype(np.float32)))[None]
    maps = Foreground(BinaryCrossEntropy()).maps(output[None])
    instances = ForegroundDecoder()(maps[0])
    assert len(instances) == 3
    assert {frozenset(np.flatnonzero(truth == k)) for k in (1, 2, 3)} == {
        frozenset(np.flatnonzero(instances.labels.numpy() == k)) for k in (1, 2, 3)
    }


def test_maps_come_back_at_the_original_size() -> None:
    output = torch.full((1, 8, 8), -8.0)
    output[:, 2:6, 2:6] = 8
    representation = Foreground(BinaryCrossEntropy())
    probability = representation.maps(output[None])[0]
    maps = representation.resize(probability, (32, 48))
    assert maps.shape == (1, 32, 48)
    assert maps[0, 16, 24] > 0.99
    assert maps[0, 2, 2] < 0.01
    shrunk = representation.resize(probability, (4, 4))
    assert shrunk.shape == (1, 4, 4)
    # Smoothed before shrinking: the mean is kept, though a pixel of four lies inside.
    assert shrunk.mean().item() == pytest.approx(0.25, abs=0.03)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float32, (12, 14), elements=st.floats(0, 1, width=32)), st.integers(0, 8))
def test_decoder_equals_scikit_image(probability: np.ndarray, min_area: int) -> None:
    instances = ForegroundDecoder(threshold=0.5, min_area=min_area)(torch.from_numpy(probability)[None])
    regions = [r for r in regionprops(label(probability >= 0.5, connectivity=2), probability) if r.area >= min_area]
    assert len(instances) == len(regions)
    for k, region in enumerate(regions):
        y0, x0, y1, x1 = region.bbox
        assert instances.boxes[k].tolist() == [x0, y0, x1, y1]
        assert (instances.labels == k + 1).sum() == region.area
        assert instances.scores[k].item() == pytest.approx(region.intensity_mean, abs=1e-5)


def test_an_empty_map_has_no_instance() -> None:
    instances = ForegroundDecoder()(torch.zeros(1, 5, 6))
    assert len(instances) == 0
    assert instances.boxes.shape == (0, 4)
    assert not instances.labels.any()


def two_cells(gap: float) -> torch.Tensor:
    """Two cells of probability .9 and a membrane of .1 between them, with a gap of one pixel."""
    probability = np.full((20, 31), 0.9, np.float32)
    probability[:, 15] = 0.1
    probability[10, 15] = gap
    return torch.from_numpy(probability)[None]


def test_a_gap_in_a_membrane_parts_at_a_higher_threshold() -> None:
    assert len(WatershedDecoder(threshold=0.5, seed_threshold=0.5)(two_cells(gap=0.6))) == 1
    parted = WatershedDecoder(threshold=0.5, seed_threshold=0.7)(two_cells(gap=0.6))
    assert len(parted) == 2
    # The gap belongs to one of them: all of the foreground is kept.
    assert torch.equal(parted.labels > 0, two_cells(gap=0.6)[0] >= 0.5)
    assert len(WatershedDecoder(threshold=0.65)(two_cells(gap=0.6))) == 2


def test_cells_are_four_connected_and_hold_a_seed() -> None:
    corners = torch.tensor([[[0.9, 0.1], [0.1, 0.9]]])
    assert WatershedDecoder()(corners).labels.tolist() == [[1, 0], [0, 2]]
    assert len(ForegroundDecoder(min_area=1)(corners)) == 1
    faint = torch.tensor([[[0.6, 0.1, 0.9]]])
    assert WatershedDecoder(seed_threshold=0.8)(faint).labels.tolist() == [[0, 0, 1]]


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float32, (12, 14), elements=st.floats(0, 1, width=32)), st.integers(1, 8))
def test_without_a_higher_seed_threshold_cells_are_components(probability: np.ndarray, min_area: int) -> None:
    instances = WatershedDecoder(min_area=min_area)(torch.from_numpy(probability)[None])
    regions = [r for r in regionprops(label(probability >= 0.5, connectivity=1), probability) if r.area >= min_area]
    assert [int((instances.labels == k + 1).sum()) for k in range(len(instances))] == [int(r.area) for r in regions]
    expected = [pytest.approx(r.intensity_mean, abs=1e-5) for r in regions]
    assert instances.scores.tolist() == expected


@pytest.mark.parametrize("decoder", [ForegroundDecoder, WatershedDecoder])
def test_knobs_to_tune_are_arguments_whose_defaults_are_among_the_choices(decoder: type) -> None:
    for knob, choices in decoder.knobs.items():
        assert getattr(decoder(), knob) in choices
        assert list(choices) == sorted(choices)


def test_instances_from_labels() -> None:
    instances = Instances.from_labels(torch.tensor([[1, 1, 0], [0, 2, 0]]), torch.tensor([0.5, 0.25]))
    assert instances.boxes.tolist() == [[0, 0, 2, 1], [1, 1, 2, 2]]
    assert instances.scores.tolist() == [0.5, 0.25]
