"""The objects of label images laid side by side, each alone in a frame of background.

Most pixels of an image are background, and objects touch. What is done to each object alone, in many steps, takes
several times less work on strips that hold little but objects, and needs no look at which object a pixel belongs to:
what is not the object itself is background.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

SMALL = 32  # px; objects of at most this side share a strip, beyond that a strip spans a factor of four


@dataclass(frozen=True)
class Strip:
    """Objects of similar size, side by side, with a column of background between them and a frame of it around all.

    Attributes:
        pixels: int64 (n,), where the objects' pixels lie in the flattened label images (B * H * W).
        cells: int64 (n,), where they lie in the flattened strip (rows * columns).
        objects: int64 (n,), which object each belongs to: numbers below B times the number of ids.
        rows, columns: size of the strip, px.
        side: longest side of the objects' bounding boxes, px.
    """

    pixels: Tensor
    cells: Tensor
    objects: Tensor
    rows: int
    columns: int
    side: int


def pack(labels: Tensor) -> Iterator[Strip]:
    """Lays the objects of label images side by side, in a strip for each class of size.

    All is torch on the labels' device, for all objects at once.

    Args:
        labels: int64 (B, H, W), 0 is background, ids without large gaps: memory grows with B times the greatest.

    >>> labels = torch.tensor([[[1, 0, 2], [1, 1, 2]]])
    >>> [strip] = pack(labels)
    >>> image = torch.zeros(strip.rows * strip.columns, dtype=torch.int64)
    >>> image[strip.cells] = labels.flatten()[strip.pixels]
    >>> image.view(strip.rows, strip.columns)
    tensor([[0, 0, 0, 0, 0, 0],
            [0, 1, 0, 0, 2, 0],
            [0, 1, 1, 0, 2, 0],
            [0, 0, 0, 0, 0, 0]])
    """
    height, width = labels.shape[-2:]
    flat = labels.flatten()
    pixels = flat.nonzero()[:, 0]
    ids = int(flat.amax()) + 1
    objects = flat.index_select(0, pixels) + pixels // (height * width) * ids
    row, column = pixels // width, pixels % width
    top, high = _extent(row, objects, ids * len(labels))
    left, wide = _extent(column, objects, ids * len(labels))
    side = torch.maximum(high, wide)
    limits = [0, SMALL]
    while limits[-1] < max(height, width):
        limits.append(4 * limits[-1])
    for above, limit in pairwise(limits):
        chosen = (side > above) & (side <= limit)
        here = chosen.index_select(0, objects).nonzero()[:, 0]
        if len(here):
            room = torch.where(chosen, wide + 1, 0)
            columns = int(room.sum()) + 1
            own = objects.index_select(0, here)
            across = column.index_select(0, here) + (room.cumsum(0) - wide - left).index_select(0, own)
            down = row.index_select(0, here) + (1 - top).index_select(0, own)
            rows, longest = int(down.amax()) + 2, int(side[chosen].amax())
            yield Strip(pixels.index_select(0, here), down * columns + across, own, rows, columns, longest)


def _extent(position: Tensor, objects: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """First position and number of positions that each object spans along an axis; 0 for numbers without an object."""
    nothing = position.new_zeros(count)
    first = nothing.scatter_reduce(0, objects, position, "amin", include_self=False)
    end = nothing.scatter_reduce(0, objects, position + 1, "amax", include_self=False)
    return first, end - first
