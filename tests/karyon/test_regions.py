"""Run lengths and polygons become the very pixels that their own libraries give them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as pycoco
from shapely import Polygon, box, contains_xy

from karyon.layouts.regions import counts_spans, paint, polygon_spans

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=9))


def mask_of(spans: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return paint([("object", spans)], size) > 0 if (spans[:, 1] > spans[:, 0]).any() else np.zeros(size, bool)


@given(MASKS)
def test_run_lengths_of_both_kinds_are_read_as_pycocotools_writes_them(mask: np.ndarray) -> None:
    text = pycoco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    numbers = np.diff(edges, prepend=0, append=flat.size).tolist()
    for counts in (text, text.decode(), numbers):
        assert (mask_of(counts_spans(counts, mask.shape, "a"), mask.shape) == mask).all()


def test_long_run_lengths_and_differences_below_zero() -> None:
    mask = np.zeros((700, 900), np.uint8)
    mask[10:650, 100:103], mask[5:690, 500], mask[300:302, 700:800] = 1, 1, 1
    text = pycoco.encode(np.asfortranarray(mask))["counts"]
    assert (mask_of(counts_spans(text, mask.shape, "a"), mask.shape) == mask).all()


@pytest.mark.parametrize(
    "counts", ["\n", "P", "0~", [3, -1], [2, 8], [[1], [2, 3]], ["a"], None, {"a": 1}, [1e30], "o" * 20]
)
def test_what_are_no_run_lengths_is_refused(counts: Any, refused: Callable) -> None:
    with refused("object 7", "run lengths", "3 x 3 px"):
        counts_spans(counts, (3, 3), "object 7")


CORNERS = st.lists(st.tuples(st.floats(-5, 20), st.floats(-5, 20)), min_size=3, max_size=8)


@given(CORNERS)
def test_a_polygon_has_the_pixels_that_pycocotools_gives_it(corners: list[tuple[float, float]]) -> None:
    size = (12, 15)
    (code,) = pycoco.frPyObjects([np.ravel(corners).tolist()], *size)
    assert (mask_of(polygon_spans([corners], size, "a"), size) == pycoco.decode(code)).all()


def test_a_ring_in_a_polygon_is_a_hole_and_pixels_far_from_the_outline_are_certain() -> None:
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    outer, inner = 25.3 + 20.4 * circle, 27.1 + 8.2 * circle[::-1]
    found = mask_of(polygon_spans([outer, inner], (50, 52), "a"), (50, 52))
    polygon = Polygon(outer, [inner])
    y, x = np.mgrid[:50, :52] + 0.5
    inside = contains_xy(polygon, x, y)
    near = contains_xy(polygon.boundary.buffer(0.75), x, y)
    assert (found == inside)[~near].all() and near.mean() < 0.12
    assert abs(found.sum() / polygon.intersection(box(0, 0, 52, 50)).area - 1) < 0.01


@pytest.mark.parametrize(
    "ring",
    [[[0, 0], [1, 1]], [[0, 0], [1, float("nan")], [2, 2]], [[0, 0], [1e9, 1], [2, 2]], "abc", [1, 2, 3], [[]] * 3],
)
def test_what_is_no_ring_is_refused(ring: Any, refused: Callable) -> None:
    with refused("object 7", "a ring", "10 x 10 px", "three or more corners"):
        polygon_spans([ring], (10, 10), "object 7")
