"""The objects of label images laid side by side, each alone in a frame of background.

Most pixels of an image are background, and objects touch. What is done to each object alone, in many steps, takes
several times less work on strips that hold little but objects, and needs no look at which object a pixel belongs to:
what is not the object itself is background.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

SMALL = 32  # px; objects of at most this side share a strip, beyond that a strip spans a factor of two

Array = Any
"""A NumPy array, or a tensor of torch on any device; results are of the same kind."""


def array_module(array: Array) -> Any:
    """NumPy or torch, whichever an array belongs to; torch is not imported for NumPy's arrays."""
    if isinstance(array, np.ndarray):
        return np
    import torch

    return torch


@dataclass(frozen=True)
class Strip:
    """Objects of similar size, side by side, with a column of background between them and a frame of it around all.

    Attributes:
        pixels: int64 (n,), where the objects' pixels lie in the flattened label images (B * H * W).
        cells: int64 (n,), where they lie in the flattened strip (rows * columns).
        objects: int64 (n,), which object each belongs to: numbers below B times the number of ids.
        rows, columns: size of the strip, px.
        side: longest side that bounding boxes of objects of this class have, px, whichever there are: what becomes of
            an object must not depend on others of the image.
    """

    pixels: Array
    cells: Array
    objects: Array
    rows: int
    columns: int
    side: int


def pack(labels: Array) -> Iterator[Strip]:
    """Lays the objects of label images side by side, in a strip for each class of size, for all objects at once.

    Args:
        labels: int64 (B, H, W), 0 is background, ids without large gaps: memory grows with B times the greatest.

    >>> labels = np.array([[[1, 0, 2], [1, 1, 2]]])
    >>> [strip] = pack(labels)
    >>> image = np.zeros(strip.rows * strip.columns, dtype=np.int64)
    >>> image[strip.cells] = labels.ravel()[strip.pixels]
    >>> image.reshape(strip.rows, strip.columns)
    array([[0, 0, 0, 0, 0, 0],
           [0, 1, 0, 0, 2, 0],
           [0, 1, 1, 0, 2, 0],
           [0, 0, 0, 0, 0, 0]])
    """
    xp = array_module(labels)
    height, width = labels.shape[-2:]
    flat = labels.reshape(-1)
    pixels = xp.where(flat != 0)[0]
    ids = int(flat.max()) + 1
    objects = flat[pixels] + pixels // (height * width) * ids
    row, column = pixels // width, pixels % width
    top, high = _extent(row, objects, ids * len(labels))
    left, wide = _extent(column, objects, ids * len(labels))
    side = xp.maximum(high, wide)
    limits = [0, SMALL]
    while limits[-1] < max(height, width):
        limits.append(2 * limits[-1])
    for above, limit in pairwise(limits):
        chosen = (side > above) & (side <= limit)
        here = xp.where(chosen[objects])[0]
        if len(here):
            room = xp.where(chosen, wide + 1, 0)
            columns = int(room.sum()) + 1
            own = objects[here]
            across = column[here] + (room.cumsum(0) - wide - left)[own]
            down = row[here] + (1 - top)[own]
            yield Strip(pixels[here], down * columns + across, own, int(down.max()) + 2, columns, limit)


def _extent(position: Array, objects: Array, count: int) -> tuple[Array, Array]:
    """First position and number of positions that each object spans along an axis; 0 for numbers without an object."""
    if isinstance(position, np.ndarray):
        first, end = np.full(count, np.iinfo(np.int64).max), np.zeros(count, np.int64)
        np.minimum.at(first, objects, position)
        np.maximum.at(end, objects, position + 1)
        first[end == 0] = 0
        return first, end - first
    nothing = position.new_zeros(count)
    first = nothing.scatter_reduce(0, objects, position, "amin", include_self=False)
    end = nothing.scatter_reduce(0, objects, position + 1, "amax", include_self=False)
    return first, end - first
