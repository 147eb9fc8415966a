"""From an image and its label image to a sample: label images follow their images through every warp."""

from collections.abc import Callable

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from albumentations import BasicTransform

from datamodules.augmentation.pipeline import compose
from datamodules.preparation import SamplePreparation
from karyon.batch import collate
from karyon.labels import relabel
from karyon.preprocessing import Preprocessing, ScaleToUnit


def scene(size: tuple[int, int] = (128, 160)) -> tuple[np.ndarray, np.ndarray]:
    """Discs on black, each of a brightness of its own: the image says of every pixel whose it is."""
    labels = np.zeros(size, np.int32)
    y, x = np.ogrid[: size[0], : size[1]]
    for k, (row, column) in enumerate(np.ndindex(4, 5), start=1):
        inside = (y - 16 - 32 * row) ** 2 + (x - 16 - 32 * column) ** 2 < (9 + k % 4) ** 2
        labels[inside] = 3 * k
    return np.where(labels > 0, 60 + 3 * labels, 0).astype(np.uint8), labels


def preparation(
    *augmentations: BasicTransform, channels: int = 3, image_size: tuple[int, int] | None = None, **kwargs: int
) -> SamplePreparation:
    chain = compose(augmentations)
    if chain:
        chain.set_random_seed(3)
    return SamplePreparation(Preprocessing(channels, ScaleToUnit(), image_size), chain, **kwargs)


def inner(labels: np.ndarray) -> np.ndarray:
    """Pixels around which, 2 px far, all belong to one object or to the background, inside the frame."""
    plane, kernel = labels.astype(np.float32), np.ones((5, 5))
    same = np.zeros(labels.shape, bool)
    same[2:-2, 2:-2] = (cv2.dilate(plane, kernel) == cv2.erode(plane, kernel))[2:-2, 2:-2]
    return same


def test_repeated_grey_takes_the_memory_of_one_plane() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    sample = preparation()("x", "", grey, None)
    assert sample.image.shape == (3, 40, 50) and sample.image.untyped_storage().nbytes() == 4 * grey.size
    batch = collate([sample])
    assert batch.image.shape == (1, 3, 40, 50) and batch.image.untyped_storage().nbytes() == 4 * grey.size
    assert torch.equal(batch.image[0, 2], torch.from_numpy(grey / np.float32(255)))


@pytest.mark.parametrize("size", [(64, 80), (50, 70), (256, 320), (200, 90), (128, 160)])
def test_labels_follow_a_resized_image(size: tuple[int, int]) -> None:
    pixels, labels = scene()
    sample = preparation(image_size=size)("x", "", pixels, labels)
    assert sample.image.shape == (3, *size) and sample.labels.shape == size
    image, new = sample.image[0].numpy() * 255, sample.labels.numpy()
    whose = np.where(image > 0, (image - 60) / 3, 0) / 3
    assert np.abs(whose - new)[inner(new)].max() < 0.01
    assert new.max() == 20 and sample.size == (128, 160)


GEOMETRIC = [
    A.ElasticTransform(alpha=60, sigma=8, p=1),
    A.D4(p=1),
    A.HorizontalFlip(p=1),
    A.Affine(shear=(15, 15), p=1),
    A.Affine(rotate=(30, 30), p=1),
    A.Affine(scale=(0.7, 0.7), p=1),
    A.Affine(scale=(1.5, 1.5), translate_percent=0.05, p=1),
    A.Rotate(limit=(40, 40), p=1),
    A.RandomCrop(height=70, width=90, p=1),
    A.GridDistortion(p=1),
]


@pytest.mark.parametrize("transform", GEOMETRIC, ids=lambda transform: type(transform).__name__)
@pytest.mark.parametrize("channels", [1, 3])
def test_labels_follow_their_image_through_a_warp(transform: BasicTransform, channels: int) -> None:
    pixels, labels = scene()
    sample = preparation(transform, channels=channels, min_area=8)("x", "", pixels, labels)
    image, new = sample.image[0].numpy() * 255, sample.labels.numpy()
    assert sample.image.shape == (channels, *new.shape) and sample.image.dtype == torch.float32
    assert image.shape != pixels.shape or not np.array_equal(image, pixels), "it did warp"
    assert set(np.unique(new)) == set(range(new.max() + 1)) and new.max() > 5
    # Inside, each object shows one brightness: that of the object it was, and no other object shows it.
    pairs = sorted(set(zip(new[inner(new)].tolist(), image[inner(new)].round(1).tolist(), strict=True)))
    ids, brightness = zip(*pairs, strict=True)
    assert len(set(ids)) == len(set(brightness)) == len(pairs) > 5
    assert pairs[0] == (0, 0) and set(brightness) <= {0, *pixels.ravel().tolist()}
    assert np.bincount(new.ravel())[1:].min() >= 8


@pytest.mark.parametrize(
    "transform",
    [A.RandomBrightnessContrast(p=1), A.InvertImg(p=1), A.ToGray(p=1), A.GaussianBlur(p=1), A.GaussNoise(p=1)],
    ids=lambda transform: type(transform).__name__,
)
def test_intensities_change_and_labels_do_not(transform: BasicTransform) -> None:
    pixels, labels = scene()
    colour = np.dstack([pixels, pixels // 2, pixels // 3])
    plain, changed = preparation()("x", "", colour, labels), preparation(transform)("x", "", colour, labels)
    assert np.array_equal(changed.labels.numpy(), relabel(labels, split=True))
    assert not torch.allclose(plain.image, changed.image, atol=0.01)
    if isinstance(transform, A.InvertImg):
        assert torch.allclose(changed.image, 1 - plain.image)
    if isinstance(transform, A.ToGray):
        assert torch.equal(changed.image[0], changed.image[2])


def test_a_crop_tears_objects_apart_and_slivers_are_dropped() -> None:
    labels = np.zeros((20, 40), np.int32)
    labels[2:16, 4:8] = labels[2:16, 20:24] = labels[12:16, 4:24] = 5  # a U
    labels[0:11, 30:34] = 9
    labels[9:12, 36:38] = 2  # of its 6 px the crop leaves 2
    image = (labels > 0).astype(np.uint8)
    whole = preparation(A.Crop(0, 0, 40, 20), min_area=3)("x", "", image, labels)
    torn = preparation(A.Crop(0, 0, 40, 10), min_area=3)("x", "", image, labels)
    assert whole.labels.max() == 3 and torn.labels.max() == 3
    assert torn.labels[5, 5] != torn.labels[5, 21] and torn.labels[9, 36] == 0
    assert torn.labels.dtype == torch.int64 and set(torn.labels.unique().tolist()) == {0, 1, 2, 3}


def test_touching_objects_stay_two() -> None:
    labels = np.repeat([[1, 1, 2, 2]], 4, axis=0).astype(np.int32)
    sample = preparation(A.HorizontalFlip(p=1))("x", "", labels.astype(np.uint8), labels)
    assert len(sample.labels.unique()) == 2


def test_ids_above_16_bit_survive_a_warp() -> None:
    labels = np.arange(70_000, dtype=np.int32).reshape(280, 250)
    sample = preparation(A.HorizontalFlip(p=1), A.Affine(translate_px=(0, 0), rotate=90, p=1))(
        "x", "", np.zeros((280, 250), np.uint8), labels
    )
    assert len(sample.labels.unique()) > 60_000


def test_a_sample_of_evaluation_carries_its_original_and_one_of_training_does_not() -> None:
    pixels, labels = scene()
    sample = preparation(image_size=(64, 64))("x", "purple", pixels, labels)
    assert (sample.name, sample.image_type, sample.size) == ("x", "purple", (128, 160))
    assert np.array_equal(sample.source, pixels)
    assert np.array_equal(sample.truth.numpy(), labels // 3)
    trained = preparation(originals=False)("x", "", pixels, labels)
    assert trained.source is None and trained.truth is None and trained.labels is not None


def test_without_augmentation_no_object_is_split_or_dropped() -> None:
    labels = np.array([[4, 0, 4, 0, 1]], np.int32)
    sample = preparation(min_area=8)("x", "", labels.astype(np.uint8), labels)
    assert sample.labels.tolist() == [[2, 0, 2, 0, 1]]


def test_an_image_without_annotation_is_warped_alone() -> None:
    sample = preparation(A.HorizontalFlip(p=1))("x", "", np.array([[0, 255]], np.uint8), None)
    assert sample.labels is None and sample.truth is None and sample.image[0].tolist() == [[1, 0]]


def test_a_label_image_of_another_size_is_refused(refused: Callable) -> None:
    with refused("x: the label image is 4 x 5 px", "the image 5 x 4", "one size"):
        preparation()("x", "", np.zeros((5, 4), np.uint8), np.zeros((4, 5), np.int32))


def test_no_augmentation_is_none() -> None:
    assert compose([]) is None


def test_an_image_smaller_than_a_crop_is_named(refused: Callable) -> None:
    prepare = preparation(A.RandomCrop(height=16, width=16))
    with refused("tiny is 8 x 20 px, smaller than a crop", "PadIfNeeded"):
        prepare("tiny", "", np.zeros((8, 20), np.uint8), np.zeros((8, 20), np.int32))
