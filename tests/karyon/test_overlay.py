"""Pictures show what the label images hold: every object, in its own colour, at its place."""

import cv2
import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from karyon.pictures.overlay import CAPTION, GAP, OUTLINE, colour_instances, display_image, side_by_side


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


def test_panels_show_input_truth_and_result_in_this_order():
    source = np.random.default_rng(1).integers(0, 256, (600, 520), dtype=np.uint8)
    pred, truth = np.zeros((2, 600, 520), np.int64)
    pred[100:200, 100:200] = 1
    truth[300:400, 300:400] = 1
    first, second, third = panels(side_by_side(source, pred, truth), 3)
    assert (first == source[..., None]).all()
    assert (second == colour_instances(truth)).all()
    outline = (truth > 0) & (cv2.erode((truth > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) == 0)
    assert (third == np.where(outline[..., None], OUTLINE, colour_instances(pred))).all()


def test_enlarged_labels_keep_sharp_edges():
    pred = blocks(2, 2, 4)
    pred[:, 3:5] = 0
    pred[3:5] = 0
    result = panels(side_by_side(np.zeros((8, 8), np.uint8), pred), 2)[1]
    assert (result == colour_instances(pred).repeat(64, axis=0).repeat(64, axis=1)).all()


def test_a_black_line_parts_objects_that_touch():
    pred = blocks(3, 3, 200)
    result = panels(side_by_side(np.zeros((600, 600), np.uint8), pred), 2)[1]
    parts, _ = cv2.connectedComponents(result.any(axis=-1).astype(np.uint8), connectivity=4)
    assert parts - 1 == 9
