"""Some nuclei become dim, the background and the annotation stay."""

import albumentations
import numpy as np
import pytest

from datamodules.augmentation.dim_objects import REACH, DimObjects

# Albumentations warns of arguments that it does not know.
pytestmark = pytest.mark.filterwarnings("error")

LABELS = np.zeros((60, 80), np.uint16)
LABELS[10:30, 10:30] = 1
LABELS[35:55, 50:70] = 7
IMAGE = np.full((60, 80, 3), 0.1, np.float32)
IMAGE[LABELS > 0] = (0.9, 0.5, 0.1)


def dim(transform: DimObjects, image: np.ndarray = IMAGE, labels: np.ndarray = LABELS, seed: int = 0) -> np.ndarray:
    composed = albumentations.Compose([transform])
    composed.set_random_seed(seed)
    result = composed(image=image, mask=labels)
    np.testing.assert_array_equal(result["mask"], labels)
    assert result["image"].dtype == image.dtype and result["image"].shape == image.shape
    return result["image"]


def test_every_object_keeps_the_given_share_of_its_contrast() -> None:
    found = dim(DimObjects(share=(1, 1), gain=(0.25, 0.25), p=1))
    # The gain is smoothed, so an object's outermost pixels keep a little more.
    np.testing.assert_allclose(found[LABELS > 0], 0.1 + 0.25 * (IMAGE[LABELS > 0] - 0.1), atol=0.01)
    np.testing.assert_allclose(found[20, 20], [0.3, 0.2, 0.1], atol=1e-6)
    np.testing.assert_allclose(found[LABELS == 0], 0.1, atol=1e-6)


def test_each_object_has_a_gain_of_its_own() -> None:
    red = dim(DimObjects(share=(1, 1), p=1))[..., 0]
    first, second = red[20, 20], red[45, 60]
    assert first != second
    for value, label in ((first, 1), (second, 7)):
        assert 0.1 + 0.15 * 0.8 <= value <= 0.1 + 0.8 * 0.8
        np.testing.assert_allclose(red[label == LABELS], value, atol=0.02)


def test_some_objects_stay_as_they_are() -> None:
    changed = [
        {label for label in (1, 7) if not np.allclose(found[label == LABELS], IMAGE[label == LABELS], atol=1e-6)}
        for found in (dim(DimObjects(share=(0.5, 0.5), p=1), seed=seed) for seed in range(40))
    ]
    assert {frozenset(labels) for labels in changed} == {frozenset(), frozenset({1}), frozenset({7}), frozenset({1, 7})}


def test_the_light_around_an_object_is_dimmed_with_it() -> None:
    halo = IMAGE.copy()
    halo[10 - REACH : 30 + REACH, 10 - REACH : 30 + REACH] = IMAGE[20, 20]
    found = dim(DimObjects(share=(1, 1), gain=(0.0, 0.0), p=1), halo)
    assert found[10 - REACH + 1, 20, 0] < 0.5 < halo[10 - REACH + 1, 20, 0]
    np.testing.assert_allclose(found[20, 20], 0.1, atol=1e-6)


def test_grey_images_and_images_without_objects_or_background() -> None:
    grey = dim(DimObjects(share=(1, 1), gain=(0.5, 0.5), p=1), IMAGE[..., 0])
    assert grey[20, 20] == pytest.approx(0.5)
    np.testing.assert_array_equal(dim(DimObjects(p=1), IMAGE, np.zeros_like(LABELS)), IMAGE)
    full = dim(DimObjects(share=(1, 1), gain=(0.5, 0.5), p=1), IMAGE, np.ones_like(LABELS))
    np.testing.assert_allclose(full, IMAGE / 2, atol=1e-6)
