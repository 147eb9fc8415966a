"""Objects given by run lengths or polygons, brought into a label image."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karyon.errors import DataError
from karyon.labels import LabelImage
from karyon.layouts.protocol import Size

Spans = NDArray[np.int64]
"""(n, 2): where a run of pixels begins and ends, half-open, in an image flattened column by column."""


def paint(objects: Iterable[tuple[str, Spans]], size: Size) -> LabelImage:
    """Gives each pixel to the last of the objects that cover it.

    Args:
        objects: what to call each in an error, and its pixels, in the order of the ids.
        size: height and width, px.

    Returns:
        int32 (H, W).

    Raises:
        DataError: an object has no pixel, or none that the later ones leave it.

    >>> paint([("a", np.array([[0, 3]])), ("b", np.array([[2, 4]]))], (2, 2))
    array([[1, 2],
           [1, 2]], dtype=int32)
    """
    named = list(objects)
    labels = cover([spans for _, spans in named], size)
    left = np.bincount(labels.ravel(), minlength=len(named) + 1)
    if gone := np.flatnonzero(left[1:] == 0).tolist():
        raise DataError(
            f"{named[gone[0]][0]} has no pixel of its own, because it is too small, outside of the image or covered "
            "by the objects after it: remove or correct it."
        )
    return labels


def cover(objects: Sequence[Spans], size: Size) -> LabelImage:
    """Numbers objects from 1 and gives each pixel to the last of those that cover it; int32 (H, W)."""
    flat = np.zeros(size[0] * size[1], np.int32)
    for number, spans in enumerate(objects, start=1):
        for begin, end in spans.tolist():
            flat[begin:end] = number
    return np.ascontiguousarray(flat.reshape(size, order="F"))


def counts_spans(counts: str | bytes | Sequence[int], size: Size, name: str) -> Spans:
    """The pixels of COCO's run lengths: background and object in turn, as numbers or as text.

    Args:
        counts: the lengths.
        size: height and width, px.
        name: of the object, for errors.

    Raises:
        DataError: they are not such lengths, or leave the image.

    >>> counts_spans([1, 2, 3], (2, 3), "a").tolist(), counts_spans("123", (2, 3), "a").tolist()
    ([[1, 3]], [[1, 3]])
    """
    try:
        lengths = _decode(counts) if isinstance(counts, str | bytes) else np.array(counts, np.int64)
    except (ValueError, TypeError, OverflowError):
        lengths = np.array([-1])
    if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() > size[0] * size[1]:
        raise DataError(f"{name} has run lengths that are none, or leave its image of {size[0]} x {size[1]} px.")
    edges = np.cumsum(lengths)
    return edges[: len(edges) // 2 * 2].reshape(-1, 2)


def _decode(text: str | bytes) -> NDArray[np.int64]:
    """Lengths from COCO's text: six bits a character, of which the highest says that the number goes on.

    From the fourth on, a number is the difference from the last but one.
    Source: https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c, rleFrString
    """
    codes = np.frombuffer(text.encode("ascii") if isinstance(text, str) else text, np.uint8).astype(np.int64) - 48
    if ((codes < 0) | (codes > 63)).any() or (len(codes) and codes[-1] & 32):
        raise ValueError(text)
    last = np.flatnonzero(codes & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(len(codes)) - np.repeat(first, last - first + 1)
    if (place > 7).any():
        raise ValueError(text)
    numbers = np.add.reduceat((codes & 31) << 5 * place, first) if len(codes) else codes
    numbers -= np.where(codes[last] & 16, 1 << 5 * (place[last] + 1), 0)
    numbers[1::2], numbers[2::2] = np.cumsum(numbers[1::2]), np.cumsum(numbers[2::2])
    return numbers


def polygon_spans(rings: Sequence[Any], size: Size, name: str) -> Spans:
    """The pixels that an odd number of rings surrounds, so that rings within the first are holes.

    COCO's own tools say which pixels a ring surrounds: exactly those, where it goes along the edges of pixels; along
    other rings, about those whose centres it surrounds.

    Args:
        rings: of each (n, 2) corners x, y in px, (0, 0) the upper left corner of the image.
        size: height and width, px.
        name: of the object, for errors.

    Raises:
        DataError: a ring has less than three corners, or corners that are not numbers or far outside of the image.

    >>> polygon_spans([[[0, 0], [2, 0], [2, 1], [0, 1]]], (3, 3), "a").tolist()
    [[0, 1], [3, 4]]
    """
    # Here, since few data sets hold polygons.
    from faster_coco_eval.core import mask

    corners = [_corners(ring, size, name).ravel().tolist() for ring in rings]
    codes = mask.frPyObjects(corners, *size) if corners else []
    edges = [counts_spans(code["counts"], size, name).ravel() for code in codes]
    # Where two rings begin or end at one pixel, they cancel each other.
    return np.sort(np.concatenate([*edges, np.zeros(0, np.int64)])).reshape(-1, 2)


def _corners(ring: Any, size: Size, name: str) -> NDArray[np.float64]:
    try:
        # GeoJSON allows a height after x and y.
        corners = np.array([corner[:2] for corner in ring], np.float64).reshape(-1, 2)
    except (ValueError, TypeError, KeyError, IndexError):
        corners = np.zeros((0, 2))
    height, width = size
    # Far outside, time and memory would grow with the distance.
    near = np.abs(corners - [width / 2, height / 2]) <= [1.5 * width, 1.5 * height]
    if len(corners) < 3 or not near.all():
        raise DataError(
            f"{name} has a ring that is none, or lies far outside of its image of {height} x {width} px: expected "
            "three or more corners, x and y in px."
        )
    return corners
