"""Stars against StarDist, where it is installed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from round_trip import Labels, agreement, any_labels, nuclei, touching_discs, uncertain
from scipy import ndimage

from karyon.representations.star.loss import encode
from karyon.representations.star.postprocessing import StarPostprocessing

geometry, nms, utils = (pytest.importorskip(f"stardist.{name}") for name in ("geometry", "nms", "utils"))


def encoded(labels: Labels, rays: int = 32) -> np.ndarray:
    return encode(torch.from_numpy(labels), rays).numpy()


def stardists(labels: Labels, rays: int) -> np.ndarray:
    return np.moveaxis(geometry.star_dist(labels.astype(np.uint16), rays), -1, 0)


@settings(max_examples=60)
@given(any_labels, st.sampled_from([4, 8, 32, 64]))
def test_distances_are_stardists(labels: Labels, rays: int) -> None:
    np.testing.assert_allclose(encoded(labels[None], rays)[0, 1:], stardists(labels, rays), atol=1e-4)


def test_distances_in_nuclei_of_all_sizes_are_stardists() -> None:
    labels = np.stack([*nuclei(1, 220), np.pad(touching_discs(), ((0, 180), (0, 124)))])
    labels[1, 60:62] = 7
    labels[1, 70:] = 8
    for rays, tolerance in [(32, 1e-3), (20, 1.0)]:
        # Where a step ends halfway between two pixels StarDist's rounding errors decide, if there are 20 rays.
        for image, target in zip(labels, encoded(labels, rays), strict=True):
            assert np.abs(target[1:] - stardists(image, rays)).max() <= tolerance + 1e-3


def test_probability_is_close_to_stardists() -> None:
    for image, target in zip(nuclei(), encoded(nuclei()), strict=True):
        difference = np.abs(target[0] - utils.edt_prob(image))[image > 0]
        assert difference.mean() < 0.03 and difference.max() < 0.15
        assert ndimage.maximum(target[0], image, range(1, image.max() + 1)) == pytest.approx(1)
        assert not target[:, image == 0].any()


@pytest.mark.parametrize("noise", [0, 0.1])
def test_objects_agree_with_stardists(noise: float) -> None:
    counts = []
    for labels in nuclei(6, 128):
        maps = uncertain("star", labels, noise)
        # Only from 2 px off the edges StarDist looks for objects unless told otherwise.
        points, scores, chosen = nms.non_maximum_suppression(
            np.moveaxis(maps[1:], 0, -1), maps[0], b=None, nms_thresh=0.4, prob_thresh=0.5
        )
        theirs = geometry.polygons_to_label(chosen, points, labels.shape, prob=scores)
        counts.append(agreement(theirs, StarPostprocessing(min_area=1)(maps).labels))
    agreed, objects = np.sum(counts, axis=0)
    assert agreed > 0.95 * objects
