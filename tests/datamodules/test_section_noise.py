"""What goes wrong with serial sections: bands that are missing, parts that slipped, and annotations that follow."""

import pickle

import albumentations
import numpy as np
import pytest

from datamodules.augmentation.section_noise import Misalignment, MissingSection

# Albumentations warns of arguments that it does not know.
pytestmark = pytest.mark.filterwarnings("error")

SEEDS = range(60)
HEIGHT, WIDTH = 100, 150
# Every pixel has a value of its own, which says where it came from; none is 0.
IMAGE = np.arange(1, HEIGHT * WIDTH + 1, dtype=np.float32).reshape(HEIGHT, WIDTH)


def chain(transform: albumentations.BasicTransform, seed: int) -> albumentations.Compose:
    composed = albumentations.Compose([transform])
    composed.set_random_seed(seed)
    return composed


def warped(transform: albumentations.BasicTransform, seed: int, image: np.ndarray = IMAGE) -> np.ndarray:
    return chain(transform, seed)(image=image)["image"]


def find_band(image: np.ndarray) -> tuple[int, int, int]:
    """Axis, start and thickness of the one black band."""
    black = image == 0
    axis = 0 if black.all(axis=1).any() else 1
    lines = np.flatnonzero(black.all(axis=1 - axis))
    expected = IMAGE.copy()
    if axis == 0:
        expected[lines[0] : lines[-1] + 1] = 0
    else:
        expected[:, lines[0] : lines[-1] + 1] = 0
    assert np.array_equal(image, expected), "one band, from edge to edge, and nothing else"
    return axis, int(lines[0]), len(lines)


def test_a_missing_band_crosses_the_image_and_is_as_thick_as_asked() -> None:
    bands = [find_band(warped(MissingSection((0.1, 0.2), p=1), seed)) for seed in SEEDS]
    for axis, length in enumerate((HEIGHT, WIDTH)):
        thick = [thickness for along, _, thickness in bands if along == axis]
        assert len(thick) >= 15 and min(thick) >= 0.1 * length and max(thick) <= 0.2 * length
        assert len(set(thick)) > 5
        ends = [(start, start + thickness) for along, start, thickness in bands if along == axis]
        assert min(start for start, _ in ends) < 0.2 * length and max(end for _, end in ends) > 0.8 * length
    assert {find_band(warped(MissingSection((0.1, 0.1), p=1), seed))[0::2] for seed in SEEDS} == {(0, 10), (1, 15)}


def test_a_missing_band_leaves_the_annotation() -> None:
    labels = IMAGE.astype(np.int32)
    for seed in SEEDS:
        result = chain(MissingSection(p=1), seed)(image=IMAGE, mask=labels)
        assert np.array_equal(result["mask"], labels) and not np.array_equal(result["image"], IMAGE)


def slipped(axis: int, line: int, shift: int) -> np.ndarray:
    """What is expected: `np.pad` repeats the edge."""
    image = IMAGE if axis == 0 else IMAGE.T
    length, reach = image.shape[1], abs(shift)
    moved = np.pad(image[line:], ((0, 0), (reach, reach)), mode="edge")[:, reach - shift :][:, :length]
    result = np.concatenate([image[:line], moved])
    return result if axis == 0 else result.T


def find_slip(image: np.ndarray, reach: int) -> tuple[int, int, int]:
    """The only axis, line and shift that explain an image."""
    explanations = []
    for axis in (0, 1):
        changed = (image != IMAGE).any(axis=1 - axis)
        line = int(changed.argmax())
        shifts = [shift for shift in range(-reach, reach + 1) if shift]
        explanations += [(axis, line, s) for s in shifts if np.array_equal(image, slipped(axis, line, s))]
    (explanation,) = explanations
    return explanation


def test_one_side_of_a_line_slips_along_it_and_the_edge_is_repeated() -> None:
    slips = [find_slip(warped(Misalignment(4, p=1), seed), 4) for seed in SEEDS]
    assert {(axis, shift) for axis, _, shift in slips} == {(a, s) for a in (0, 1) for s in range(-4, 5) if s}
    for axis, length in enumerate((HEIGHT, WIDTH)):
        lines = [line for along, line, _ in slips if along == axis]
        assert 0 < min(lines) < 0.25 * length and 0.75 * length < max(lines) < length


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_the_annotation_slips_with_the_image_and_keeps_its_numbers(dtype: type) -> None:
    """Labels are drawn from the image, and must still be what the image shows."""
    for seed in SEEDS:
        result = chain(Misalignment(p=1), seed)(image=IMAGE, mask=IMAGE.astype(dtype))
        assert result["mask"].dtype == dtype and result["image"].dtype == np.float32
        assert np.array_equal(result["image"], result["mask"].astype(np.float32))
        assert not np.array_equal(result["image"], IMAGE)


def test_a_shift_beyond_the_image_repeats_the_edge_all_along() -> None:
    small = IMAGE[:6, :6]
    for seed in SEEDS:
        values = warped(Misalignment(500, p=1), seed, small)
        assert values.shape == small.shape and set(values.ravel()) <= set(small.ravel())


BOTH = [MissingSection, Misalignment]


@pytest.mark.parametrize("image_type", BOTH)
def test_one_channel_is_as_none_and_three_are_alike(image_type: type) -> None:
    for seed in SEEDS:
        plane = warped(image_type(p=1), seed)
        for channels in (1, 3):
            image = warped(image_type(p=1), seed, np.repeat(IMAGE[..., None], channels, axis=2))
            assert image.shape == (HEIGHT, WIDTH, channels) and image.dtype == np.float32
            assert (image == plane[..., None]).all()


@pytest.mark.parametrize("image_type", BOTH)
def test_a_seed_repeats_everything_and_another_differs(image_type: type) -> None:
    first, again, other = (
        [composed(image=IMAGE)["image"] for _ in range(5)]
        for composed in (chain(image_type(p=1), s) for s in (1, 1, 2))
    )
    assert np.array_equal(first, again)
    assert not any(np.array_equal(a, b) for a in first for b in other)
    assert len({image.tobytes() for image in first}) == 5


@pytest.mark.parametrize("image_type", BOTH)
def test_the_original_is_not_written_to_and_the_transform_travels_to_a_worker(image_type: type) -> None:
    image, labels = IMAGE.copy(), IMAGE.copy()
    transform = pickle.loads(pickle.dumps(image_type(p=1)))
    result = chain(transform, 3)(image=image, mask=labels)
    assert np.array_equal(image, IMAGE) and np.array_equal(labels, IMAGE)
    assert np.array_equal(result["image"], warped(image_type(p=1), 3))
