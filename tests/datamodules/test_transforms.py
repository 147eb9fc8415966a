"""From pixels to the network's input: values, sizes, and label images that follow their images through every warp."""

import warnings
from collections.abc import Callable

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from albumentations import BasicTransform
from hypothesis import given
from hypothesis import strategies as st

from datamodules import transforms
from datamodules.sample import DataError, collate, relabel
from datamodules.transforms import PercentileNormalize, Preparation, ScaleToUnit, compose, exact, resize, to_channels

RNG = np.random.default_rng(0)


def scene(size: tuple[int, int] = (128, 160)) -> tuple[np.ndarray, np.ndarray]:
    """Discs on black, each of a brightness of its own: the image says of every pixel whose it is."""
    labels = np.zeros(size, np.int32)
    y, x = np.ogrid[: size[0], : size[1]]
    for k, (row, column) in enumerate(np.ndindex(4, 5), start=1):
        inside = (y - 16 - 32 * row) ** 2 + (x - 16 - 32 * column) ** 2 < (9 + k % 4) ** 2
        labels[inside] = 3 * k
    return np.where(labels > 0, 60 + 3 * labels, 0).astype(np.uint8), labels


def preparation(*augmentations: BasicTransform, **kwargs: object) -> Preparation:
    chain = compose(augmentations)
    if chain:
        chain.set_random_seed(3)
    arguments: dict[str, object] = {"channels": 3, "normalization": ScaleToUnit(), "image_size": None}
    return Preparation(augmentations=chain, **{**arguments, **kwargs})  # type: ignore[arg-type]


def inner(labels: np.ndarray) -> np.ndarray:
    """Pixels around which, 2 px far, all belong to one object or to the background, inside the frame."""
    plane, kernel = labels.astype(np.float32), np.ones((5, 5))
    same = np.zeros(labels.shape, bool)
    same[2:-2, 2:-2] = (cv2.dilate(plane, kernel) == cv2.erode(plane, kernel))[2:-2, 2:-2]
    return same


# --- values


def test_integers_are_divided_by_the_greatest_value_of_their_type() -> None:
    for dtype, top in ((np.uint8, 255), (np.uint16, 65535), (np.uint32, 2**32 - 1)):
        image = ScaleToUnit()(np.array([[0, top // 5, top]], dtype))
        assert image.dtype == np.float32 and image.tolist()[0] == pytest.approx([0, 0.2, 1], abs=1e-6)
    assert ScaleToUnit()(np.array([[True, False]])).tolist() == [[1, 0]]
    assert ScaleToUnit()(np.array([[0.25, 1.0]])).tolist() == [[0.25, 1]]


@pytest.mark.parametrize("values", [[0.0, 1.01], [-0.1, 1.0], [0.0, 4000.0]])
def test_floats_outside_the_unit_range_name_the_other_normalisation(values: list[float]) -> None:
    with pytest.raises(DataError, match=r"^x: .* outside \[0, 1\].*datamodules\.transforms\.PercentileNormalize\.$"):
        preparation()("x", "", np.array([values], np.float32), None)


@pytest.mark.parametrize("normalization", [ScaleToUnit(), PercentileNormalize()])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(
    normalization: object, value: float, refused: Callable[..., object]
) -> None:
    with refused("x: the image holds values that are not finite", "repair or remove"):  # type: ignore[attr-defined]
        preparation(normalization=normalization)("x", "", np.array([[0.5, value]], np.float32), None)


@pytest.mark.parametrize(
    "normalization", [ScaleToUnit(), PercentileNormalize(), PercentileNormalize(dark_background=True)]
)
@pytest.mark.parametrize("shape", [(37, 50), (37, 50, 3)])
@pytest.mark.parametrize("arguments", [{"channels": 1}, {"channels": 3}, {"channels": 3, "image_size": (20, 24)}])
def test_the_parts_of_an_image_are_prepared_as_its_whole(
    normalization: object, shape: tuple[int, ...], arguments: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Bright for the most part.
    pixels = RNG.integers(0, 2**16, shape).astype(np.uint16) // 2 + 2**15
    prepare = preparation(normalization=normalization, **arguments)
    whole = prepare("x", "", pixels, None).image
    # Looked at in several strips.
    monkeypatch.setattr(transforms, "STRIP", 400)
    part = prepare.parts("x", pixels)
    for region in ((slice(0, 9), slice(3, 20)), (slice(5, 20), slice(0, 24))):
        assert torch.equal(part(region), whole[(..., *region)])


def test_parts_that_cannot_be_normalised_name_their_image(refused: Callable[..., object]) -> None:
    everywhere = slice(None), slice(None)
    with refused("x: float pixels from 0 to 2 are outside"):  # type: ignore[attr-defined]
        preparation().parts("x", np.array([[0.0, 2.0]]))(everywhere)
    with refused("x: the pixels are complex numbers"):  # type: ignore[attr-defined]
        preparation(normalization=PercentileNormalize()).parts("x", np.array([[1j]]))


@given(st.floats(1e-8, 1e6), st.floats(-1e3, 1e3))
def test_percentiles_do_not_depend_on_gain_and_offset(gain: float, offset: float) -> None:
    pixels = np.random.default_rng(0).random((20, 30))
    normalize = PercentileNormalize()
    # The offset is a multiple of the gain, since otherwise it drowns the signal in rounding.
    changed = normalize(gain * (pixels + offset))
    assert changed.dtype == np.float32 and np.abs(changed - normalize(pixels)).max() < 1e-4


def test_percentiles_map_to_0_and_1_and_the_rest_is_clipped() -> None:
    pixels = np.arange(1001, dtype=np.uint16).reshape(7, 143)
    image = PercentileNormalize(10, 90)(pixels).ravel()
    assert image[100] == 0 and image[900] == 1 and image[500] == pytest.approx(0.5)
    assert (image[:100] == 0).all() and (image[900:] == 1).all()


def test_a_constant_image_becomes_zero_and_rare_bright_pixels_survive() -> None:
    assert not PercentileNormalize()(np.full((9, 9), 7, np.uint16)).any()
    sparse = np.zeros((100, 100), np.uint8)
    sparse[5, 5] = 200
    assert PercentileNormalize()(sparse).max() == 1


def test_a_bright_background_becomes_dark_and_a_dark_one_stays() -> None:
    image, _ = scene()
    pixels = np.dstack([image, image // 2, image])
    normalize = PercentileNormalize(0, 100, dark_background=True)
    assert np.array_equal(normalize(pixels), PercentileNormalize(0, 100)(pixels))
    assert np.allclose(normalize(255 - pixels), normalize(pixels), atol=1e-6)
    assert np.allclose(normalize(255 - image), normalize(image), atol=1e-6)
    assert PercentileNormalize(0, 100)(255 - image)[0, 0] == 1


def test_percentiles_keep_hues() -> None:
    pixels = np.stack([np.linspace(0, 0.2, 50), np.linspace(0, 0.4, 50)], 1)[None][..., [0, 1, 1]]
    image = PercentileNormalize(0, 100)(pixels)
    assert np.allclose(image, pixels / 0.4, atol=1e-6)


def test_channels() -> None:
    grey, colour = RNG.random((4, 5), np.float32), RNG.random((4, 5, 3), np.float32)
    assert np.array_equal(to_channels(grey, 1), grey[..., None])
    assert np.array_equal(to_channels(grey, 3), np.dstack([grey] * 3))
    assert to_channels(colour, 3) is colour
    luminance = colour @ np.float32([0.299, 0.587, 0.114])
    assert np.allclose(to_channels(colour, 1)[..., 0], luminance, atol=1e-6)


def test_repeated_grey_takes_the_memory_of_one_plane() -> None:
    grey = RNG.integers(0, 256, (40, 50), np.uint8)
    sample = preparation()("x", "", grey, None)
    assert sample.image.shape == (3, 40, 50) and sample.image.untyped_storage().nbytes() == 4 * grey.size
    batch = collate([sample])
    assert batch.image.shape == (1, 3, 40, 50) and batch.image.untyped_storage().nbytes() == 4 * grey.size
    assert torch.equal(batch.image[0, 2], torch.from_numpy(grey / np.float32(255)))


# --- sizes


@pytest.mark.parametrize("size", [(64, 80), (50, 70), (256, 320), (200, 90), (128, 160)])
def test_labels_follow_a_resized_image(size: tuple[int, int]) -> None:
    pixels, labels = scene()
    sample = preparation(image_size=size)("x", "", pixels, labels)
    assert sample.labels is not None and sample.image.shape == (3, *size) and sample.labels.shape == size
    image, new = sample.image[0].numpy() * 255, sample.labels.numpy()
    whose = np.where(image > 0, (image - 60) / 3, 0) / 3
    assert np.abs(whose - new)[inner(new)].max() < 0.01
    assert new.max() == 20 and sample.size == (128, 160)


def test_a_smaller_image_is_made_of_area_means_and_a_larger_one_of_no_new_extremes() -> None:
    pixels = RNG.random((8, 12, 3), np.float32)
    small, _ = resize(pixels, None, (2, 3))
    assert np.allclose(small, pixels.reshape(2, 4, 3, 4, 3).mean((1, 3)), atol=1e-6)
    large, _ = resize(pixels, None, (16, 24))
    assert pixels.min() <= large.min() and large.max() <= pixels.max()
    # Half a pixel from each edge, two pixels of the result lie a quarter to each side of one of the original.
    assert np.allclose(large[1, 1], 0.75**2 * pixels[0, 0] + 0.1875 * (pixels[0, 1] + pixels[1, 0]) + pixels[1, 1] / 16)


def test_resizing_keeps_the_channels_and_huge_numbers() -> None:
    labels = np.full((8, 8), 70_000, np.int32)
    image, new = resize(RNG.random((8, 8, 1), np.float32), labels, (5, 4))
    assert image.shape == (5, 4, 1) and new is not None and (new == 70_000).all()
    assert resize(RNG.random((8, 8, 3), np.float32), None, (5, 4))[1] is None
    assert exact(labels).dtype == np.float32 and exact(labels - 10_000).dtype == np.uint16


# --- warps

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
    assert sample.labels is not None
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
    assert changed.labels is not None and np.array_equal(changed.labels.numpy(), relabel(labels, split=True))
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
    assert whole.labels is not None and torn.labels is not None
    assert whole.labels.max() == 3 and torn.labels.max() == 3
    assert torn.labels[5, 5] != torn.labels[5, 21] and torn.labels[9, 36] == 0
    assert torn.labels.dtype == torch.int64 and set(torn.labels.unique().tolist()) == {0, 1, 2, 3}


def test_touching_objects_stay_two() -> None:
    labels = np.repeat([[1, 1, 2, 2]], 4, axis=0).astype(np.int32)
    sample = preparation(A.HorizontalFlip(p=1))("x", "", labels.astype(np.uint8), labels)
    assert sample.labels is not None and len(sample.labels.unique()) == 2


def test_ids_above_16_bit_survive_a_warp() -> None:
    labels = np.arange(70_000, dtype=np.int32).reshape(280, 250)
    sample = preparation(A.HorizontalFlip(p=1), A.Affine(translate_px=(0, 0), rotate=90, p=1))(
        "x", "", np.zeros((280, 250), np.uint8), labels
    )
    assert sample.labels is not None and len(sample.labels.unique()) > 60_000


# --- samples


def test_a_sample_of_evaluation_carries_its_original_and_one_of_training_does_not() -> None:
    pixels, labels = scene()
    sample = preparation(image_size=(64, 64))("x", "purple", pixels, labels)
    assert (sample.name, sample.kind, sample.size) == ("x", "purple", (128, 160))
    assert sample.source is not None and np.array_equal(sample.source, pixels)
    assert sample.truth is not None and np.array_equal(sample.truth.numpy(), labels // 3)
    trained = preparation(originals=False)("x", "", pixels, labels)
    assert trained.source is None and trained.truth is None and trained.labels is not None


def test_without_augmentation_no_object_is_split_or_dropped() -> None:
    labels = np.array([[4, 0, 4, 0, 1]], np.int32)
    sample = preparation(min_area=8)("x", "", labels.astype(np.uint8), labels)
    assert sample.labels is not None and sample.labels.tolist() == [[2, 0, 2, 0, 1]]


def test_an_image_without_annotation_is_warped_alone() -> None:
    sample = preparation(A.HorizontalFlip(p=1))("x", "", np.array([[0, 255]], np.uint8), None)
    assert sample.labels is None and sample.truth is None and sample.image[0].tolist() == [[1, 0]]


def test_a_label_image_of_another_size_is_refused(refused: Callable[..., object]) -> None:
    with refused("x: the label image is 4 x 5 px", "the image 5 x 4", "one size"):  # type: ignore[attr-defined]
        preparation()("x", "", np.zeros((5, 4), np.uint8), np.zeros((4, 5), np.int32))


def test_no_augmentation_is_none() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compose([]) is None


def test_an_image_smaller_than_a_crop_is_named() -> None:
    preparation = Preparation(1, ScaleToUnit(), None, compose([A.RandomCrop(height=16, width=16)]))
    with pytest.raises(DataError, match=r"^tiny is 8 x 20 px, smaller than a crop .*PadIfNeeded\.$"):
        preparation("tiny", "", np.zeros((8, 20), np.uint8), np.zeros((8, 20), np.int32))
