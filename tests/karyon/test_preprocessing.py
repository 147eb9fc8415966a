"""From pixels to the network's input: values, polarity, channels, sizes, and parts that equal the whole."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from karyon import preprocessing
from karyon.io.pages import nan_filled
from karyon.preprocessing import (
    PercentileNormalize,
    Preprocessing,
    ScaleToUnit,
    exact,
    resize,
    resize_labels,
    to_channels,
)

RNG = np.random.default_rng(0)
Refused = Callable[..., Any]


def test_integers_are_divided_by_the_greatest_value_of_their_type() -> None:
    for dtype, top in ((np.uint8, 255), (np.uint16, 65535), (np.uint32, 2**32 - 1)):
        image = ScaleToUnit()(np.array([[0, top // 5, top]], dtype))
        assert image.dtype == np.float32 and image.tolist()[0] == pytest.approx([0, 0.2, 1], abs=1e-6)
    assert ScaleToUnit()(np.array([[True, False]])).tolist() == [[1, 0]]
    assert ScaleToUnit()(np.array([[0.25, 1.0]])).tolist() == [[0.25, 1]]


NORMALIZATIONS = (ScaleToUnit(), PercentileNormalize(), PercentileNormalize(dark_background=True))
OUTSIDE = ("x: float pixels", "outside [0, 1]", "karyon.preprocessing.PercentileNormalize.")
NOT_FINITE = ("x: the image holds values that are not finite", "repair it, or take NaN for background")


@pytest.mark.parametrize(
    ("normalization", "values", "sentence"),
    [
        *((ScaleToUnit(), values, OUTSIDE) for values in ([0.0, 1.01], [-0.1, 1.0], [0.0, 4000.0])),
        *(
            (each, [0.5, bad], NOT_FINITE)
            for each in (ScaleToUnit(), PercentileNormalize())
            for bad in (np.nan, np.inf)
        ),
        (PercentileNormalize(), [1j], ("x: the pixels are complex numbers",)),
    ],
)
def test_what_cannot_be_normalised_is_refused_by_its_name(
    normalization: Any, values: list[Any], sentence: tuple[str, ...], refused: Refused
) -> None:
    prepare, pixels = Preprocessing(1, normalization), np.array([values])
    with refused(*sentence):
        prepare("x", pixels)
    with refused(*sentence):
        prepare.parts("x", pixels)()


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("shape", [(37, 50), (37, 50, 3)])
@pytest.mark.parametrize(("channels", "size"), [(1, None), (3, None), (3, (20, 24))])
def test_the_parts_of_an_image_are_prepared_as_its_whole(
    normalization: Any,
    shape: tuple[int, ...],
    channels: int,
    size: tuple[int, int] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Bright for the most part.
    pixels = RNG.integers(0, 2**16, shape).astype(np.uint16) // 2 + 2**15
    prepare = Preprocessing(channels, normalization, size)
    whole = prepare("x", pixels)
    assert whole.shape == (*(size or shape[:2]), channels) and whole.dtype == np.float32
    # Looked at in several strips.
    monkeypatch.setattr(preprocessing, "STRIP", 400)
    part = prepare.parts("x", pixels)
    assert np.array_equal(part(), whole.transpose(2, 0, 1))
    if size is None:
        for region in ((slice(0, 9), slice(3, 20)), (slice(5, 20), slice(0, 24))):
            assert np.array_equal(part(region), whole[region].transpose(2, 0, 1))


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
    image = np.zeros((40, 40), np.uint8)
    image[5:20, 5:20], image[25:30, 25:30] = 60, 250
    normalize = PercentileNormalize(0, 100, dark_background=True)
    for pixels in (image, np.dstack([image, image // 2, image])):
        assert np.array_equal(normalize(pixels), PercentileNormalize(0, 100)(pixels))
        assert np.allclose(normalize(255 - pixels), normalize(pixels), atol=1e-6)
    assert PercentileNormalize(0, 100)(255 - image)[0, 0] == 1


@pytest.mark.parametrize(("background", "inverted"), [("auto", True), ("bright", True), ("dark", False)])
def test_a_background_that_is_known_is_not_guessed(background: Any, inverted: bool) -> None:
    pixels = np.array([[200, 200, 200, 0]], np.uint8)
    for dark_background in (True, False):
        prepare = Preprocessing(1, PercentileNormalize(0, 100, dark_background))
        parts = prepare.parts("x", pixels, background)
        assert parts.inverted == (inverted and dark_background)
        assert parts()[0].tolist() == ([[0, 0, 0, 1]] if parts.inverted else [[1, 1, 1, 0]])


def test_percentiles_keep_hues() -> None:
    pixels = np.stack([np.linspace(0, 0.2, 50), np.linspace(0, 0.4, 50)], 1)[None][..., [0, 1, 1]]
    assert np.allclose(PercentileNormalize(0, 100)(pixels), pixels / 0.4, atol=1e-6)


def test_channels() -> None:
    grey, colour = RNG.random((4, 5), np.float32), RNG.random((4, 5, 3), np.float32)
    assert np.array_equal(to_channels(grey, 1), grey[..., None])
    assert np.array_equal(to_channels(grey, 3), np.dstack([grey] * 3))
    assert to_channels(colour, 3) is colour
    assert np.allclose(to_channels(colour, 1)[..., 0], colour @ np.float32([0.299, 0.587, 0.114]), atol=1e-6)


def test_repeated_grey_takes_the_memory_of_one_plane() -> None:
    planes = Preprocessing(3, ScaleToUnit()).parts("x", RNG.integers(0, 256, (40, 50), np.uint8))()
    assert planes.shape == (3, 40, 50) and planes.strides[0] == 0 and planes[0].flags.c_contiguous


def test_a_smaller_image_is_made_of_area_means_and_a_larger_one_of_no_new_extremes() -> None:
    pixels = RNG.random((8, 12, 3), np.float32)
    assert np.allclose(resize(pixels, (2, 3)), pixels.reshape(2, 4, 3, 4, 3).mean((1, 3)), atol=1e-6)
    large = resize(pixels, (16, 24))
    assert pixels.min() <= large.min() and large.max() <= pixels.max()
    # Half a pixel from each edge, two pixels of the result lie a quarter to each side of one of the original.
    assert np.allclose(large[1, 1], 0.75**2 * pixels[0, 0] + 0.1875 * (pixels[0, 1] + pixels[1, 0]) + pixels[1, 1] / 16)


def test_resizing_keeps_the_channels_and_huge_numbers() -> None:
    labels = np.full((8, 8), 70_000, np.int32)
    assert resize(RNG.random((8, 8, 1), np.float32), (5, 4)).shape == (5, 4, 1)
    new = resize_labels(labels, (5, 4))
    assert new.shape == (5, 4) and new.dtype == np.int32 and (new == 70_000).all()
    assert exact(labels).dtype == np.float32 and exact(labels - 10_000).dtype == np.uint16


@pytest.mark.parametrize("dark", [False, True])
def test_what_is_not_a_number_is_background_where_that_is_asked_for(dark: bool, refused: Callable) -> None:
    pixels = np.full((8, 8), 5, np.float32)
    pixels[2:4, 2:4], pixels[4:6, 4:6] = 9, 2
    without = pixels.copy()
    without[:, -1] = np.nan
    wanted = PercentileNormalize(0, 100, dark, nan_is_background=True)
    assert np.array_equal(wanted(without), PercentileNormalize(0, 100, dark)(pixels))
    assert np.isnan(nan_filled(np.full(2, np.nan))).all() and np.isnan(without[:, -1]).all()
    with refused("not finite"):
        wanted(without * np.inf)
