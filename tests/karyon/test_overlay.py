"""Pictures show what the label images hold: every object, in its own colour, at its place."""

import cv2
import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.color import rgb2lab

from karyon.pictures.jet import colour_instances
from karyon.pictures.outlines import PALETTE, colour_neighbours, outline, rim
from karyon.pictures.overlay import CAPTION, GAP, INK, display_image, side_by_side
from karyon.planes import PixelSize


def blocks(rows, columns, size):
    """Touching squares 1..rows*columns that fill the image."""
    return np.kron(np.arange(1, rows * columns + 1).reshape(rows, columns), np.ones((size, size), int))


def panels(picture, count):
    """The panels of a picture without their captions."""
    width = (picture.shape[1] - (count - 1) * GAP) // count
    return [picture[CAPTION:, k * (width + GAP) :][:, :width] for k in range(count)]


def test_colours_are_jets_and_the_background_black():
    colours = colour_instances(np.arange(1001)[None])[0]
    assert (colours[0] == 0).all()
    jet = matplotlib.colormaps["jet"](np.arange(256), bytes=True)[:, :3]
    assert {tuple(colour) for colour in colours[1:].tolist()} <= {tuple(colour) for colour in jet.tolist()}


def test_colours_of_few_objects_and_of_successive_ids_differ_clearly():
    colours = colour_instances(np.arange(1, 2001)[None])[0].astype(int)
    assert np.abs(np.diff(colours, axis=0)).sum(axis=1).min() > 250
    difference = np.abs(colours[:8, None] - colours[None, :8]).sum(axis=-1)
    assert difference[~np.eye(8, dtype=bool)].min() > 60


def test_an_id_has_the_same_colour_in_every_image():
    assert (colour_instances(np.array([[3]])) == colour_instances(np.arange(9)[None])[:, 3:4]).all()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int32, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
def test_images_of_any_type_use_the_whole_range(dtype, shape):
    source = (np.arange(np.prod(shape)).reshape(shape) // 20 % 2 * 40).astype(dtype)
    picture = display_image(source)
    assert picture.shape == (20, 30, 3) and picture.dtype == np.uint8
    assert picture.min() == 0 and picture.max() == 255


def test_bright_8_bit_images_stay_as_they_are():
    source = np.random.default_rng(0).integers(50, 230, (40, 50, 3), dtype=np.uint8)
    assert (display_image(source) == source).all()


def test_hues_stay():
    source = np.zeros((2, 2, 3), np.uint16)
    source[0] = (4000, 2000, 1000)
    assert display_image(source)[0, 0].tolist() == [255, 128, 64]


def test_a_hot_pixel_does_not_darken_the_rest():
    source = np.tile(np.arange(100, dtype=np.uint16), (100, 1))
    source[50, 50] = 60000
    assert display_image(source)[0, 99, 0] == 255


def test_pixels_that_are_not_finite_are_black():
    source = np.tile(np.linspace(0, 1, 50), (50, 1))
    source[0, 48:] = np.nan, np.inf
    picture = display_image(source)
    assert (picture[0, 48:] == 0).all() and picture[1, 49, 0] == 255
    assert (display_image(np.full((3, 3), np.nan)) == 0).all()


@given(arrays(np.float32, (6, 7), elements=st.floats(-1e6, 1e6, width=32)))
def test_brighter_pixels_never_look_darker(source):
    shown = display_image(source)[..., 0].ravel()[np.argsort(source.ravel())]
    assert (np.diff(shown.astype(int)) >= 0).all()


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((512, 640), (512, 640)),
        ((256, 320), (512, 640)),
        ((100, 30), (600, 180)),
        ((1, 1), (512, 512)),
        ((2, 2100), (1, 1050)),
    ],
)
def test_small_images_grow_and_large_ones_shrink_by_whole_numbers(size, shown):
    labels = np.ones(size, np.int64)
    height, width = shown
    assert side_by_side(np.zeros(size, np.uint8), labels).shape == (height + CAPTION, 2 * width + GAP, 3)
    assert side_by_side(np.zeros(size, np.uint8), labels, labels).shape == (height + CAPTION, 3 * width + 2 * GAP, 3)


def two_objects():
    source = np.random.default_rng(1).integers(0, 256, (600, 520), dtype=np.uint8)
    pred, truth = np.zeros((2, 600, 520), np.int64)
    pred[100:200, 100:200] = 1
    truth[300:400, 300:400], truth[:50] = 1, -1
    return source, pred, truth


def test_panels_show_input_and_the_outlines_of_truth_and_result_on_it():
    source, pred, truth = two_objects()
    first, second, third = panels(side_by_side(source, pred, truth), 3)
    assert (first == source[..., None]).all()
    for panel, labels in ((second, truth), (third, pred)):
        inside = cv2.erode((labels > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        line = (labels > 0) & ~inside
        assert (panel[line] == PALETTE[0]).all()
        assert (panel[~line & (labels >= 0)] == source[~line & (labels >= 0), None]).all()
    # What is not annotated is grey.
    assert (abs(second[:50].astype(int) - (source[:50, :, None] // 2 + 48)) <= 1).all()


def test_filled_panels_are_jets():
    source, pred, truth = two_objects()
    _, second, third = panels(side_by_side(source, pred, truth, filled=True), 3)
    assert (second == colour_instances(truth)).all() and (third == colour_instances(pred)).all()


def test_enlarged_outlines_keep_sharp_edges_and_leave_the_pixels_visible():
    pred = np.zeros((8, 8), np.int64)
    pred[2:6, 2:5] = 1
    result = panels(side_by_side(np.zeros((8, 8), np.uint8), pred), 2)[1]
    drawn = result.any(axis=-1)
    expected = np.zeros((512, 512), bool)
    expected[128:384, 128:320] = True
    expected[130:382, 130:318] = False
    assert (drawn == expected).all()


def test_thin_lines_on_small_objects():
    # Apart from each other, 6 px wide.
    pred = np.kron(np.arange(1, 5626).reshape(75, 75), np.pad(np.ones((6, 6), int), 1))
    result = panels(side_by_side(np.full((600, 600), 255, np.uint8), pred), 2)[1]
    assert (result == 255).all(axis=-1).sum() == 600**2 - 75**2 * 20


@pytest.mark.parametrize("shape", ["squares", "discs apart"])
def test_neighbours_differ_in_colour(shape):
    """Next to each other in the plane, whether they touch or not."""
    places = np.random.default_rng(0).permutation(400).reshape(20, 20) + 1
    labels = np.kron(places, np.ones((9, 9), int))
    if shape != "squares":
        labels *= np.kron(np.ones((20, 20), int), np.hypot(*np.mgrid[-4:5, -4:5]) < 4)
    colours = colour_neighbours(labels)
    assert colours[0] == 0 and len(colours) == 401 and colours.max() < len(PALETTE)
    shown = colours[places]
    assert (shown[1:] != shown[:-1]).all() and (shown[:, 1:] != shown[:, :-1]).all()
    # Few colours, of which all are used.
    assert 2 <= len(set(shown.ravel().tolist())) <= 5


@pytest.mark.parametrize("labels", [np.zeros((3, 4), int), np.full((3, 4), -1), np.full((3, 4), 2)])
def test_images_of_one_object_or_none(labels):
    assert (colour_neighbours(labels) == 0).all()
    picture = np.zeros((*labels.shape, 3), np.uint8)
    assert outline(picture, labels, colour_neighbours(labels)).shape == picture.shape
    assert not rim(np.full((3, 4), 2)).any()


# Machado, Oliveira and Fernandes 2009, severity 1, of linear RGB.
BLIND = {
    "nobody": np.eye(3),
    "protan": [(0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)],
    "deutan": [(0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)],
    "tritan": [(1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)],
}


@pytest.mark.parametrize("eyes", BLIND)
def test_colour_blind_people_tell_colours_apart(eyes):
    unit = PALETTE / 255
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(BLIND[eyes]), 0, 1)
    lab = rgb2lab(np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055))
    difference = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    assert difference[~np.eye(len(PALETTE), dtype=bool)].min() > 20


@pytest.mark.parametrize(
    ("size", "pixel", "side"),
    [((600, 600), 0.5, 200), ((600, 600), 0.11, 182), ((100, 100), 1.0, 120), ((2100, 600), 0.1, 100)],
)
def test_a_scale_bar_is_as_long_as_it_says(size, pixel, side):
    image, labels = np.zeros(size, np.uint8), np.zeros(size, np.int64)
    strip, plain = (side_by_side(image, labels, pixel_size=one)[:CAPTION] for one in (PixelSize(pixel, pixel), None))
    bar = (strip[CAPTION - 10] != plain[CAPTION - 10]).all(axis=-1)
    longest = max(map(len, "".join("x" if one else " " for one in bar).split()))
    assert longest == side and (strip[CAPTION - 10, bar] == INK).any()


def test_scores_stand_in_their_objects():
    source, pred, _ = two_objects()
    plain, written = (panels(side_by_side(source, pred, scores=one), 2)[1] for one in (None, [0.87]))
    changed = (plain != written).any(axis=-1)
    assert changed.any() and not changed[pred == 0].any()
