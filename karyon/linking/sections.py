"""The objects of each plane of a stack, and the pixels that those of planes near each other share."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from karyon.labels import LabelImage
from karyon.metrics.matching import find_overlaps


class Sections(NamedTuple):
    """The 2-D objects of a stack, plane by plane, in each by their first pixel, row by row: never by their ids."""

    plane: NDArray[np.int64]  # (n,) from 0
    label: NDArray[np.int64]  # (n,) id in the plane's label image
    area: NDArray[np.int64]  # (n,) px
    centre: NDArray[np.float64]  # (n, 2) row and column of the centre of mass, px


class Shared(NamedTuple):
    """Pairs of objects, numbered from 0, that share pixels where their planes are laid on each other."""

    a: NDArray[np.int64]  # (m,) the earlier one
    b: NDArray[np.int64]  # (m,)
    area: NDArray[np.int64]  # (m,) px


def numbered(labels: LabelImage) -> tuple[NDArray[np.int32], Sections]:
    """Numbers the objects of a plane by their first pixel.

    Args:
        labels: integers (H, W), the objects' ids are any positive numbers.

    Returns:
        int32 (H, W), 0 background, 1..n the objects; and what is known of them, as of plane 0.

    >>> numbered(np.array([[0, 7, 7], [3, 0, 7]]))[0].tolist()
    [[0, 1, 1], [2, 0, 1]]
    """
    flat, width = labels.ravel(), labels.shape[1]
    # Runs of pixels, each within a row.
    starts = np.union1d(np.flatnonzero(flat[1:] != flat[:-1]) + 1, np.arange(0, flat.size, width))
    lengths = np.diff(starts, append=flat.size)
    ids, first, inverse = np.unique(flat[starts], return_index=True, return_inverse=True)
    order = np.argsort(first)
    order = order[ids[order] > 0]
    number = np.zeros(len(ids), np.int32)
    number[order] = np.arange(1, len(order) + 1)
    runs = number[inverse]

    def total(weights: NDArray[Any]) -> Any:
        return np.bincount(runs, weights, len(order) + 1)[1:]

    area = total(lengths)
    rows, columns = total(lengths * (starts // width)), total(lengths * (starts % width + (lengths - 1) / 2))
    centre = np.stack([rows, columns], axis=1) / area[:, None]
    sections = Sections(np.zeros(len(order), np.int64), ids[order].astype(np.int64), area.astype(np.int64), centre)
    return np.repeat(runs, lengths).reshape(labels.shape), sections


def scan(
    read: Callable[[int], LabelImage], frames: int, depths: int, axes: str, gap: int
) -> tuple[Sections, dict[str, Shared]]:
    """Looks at a stack plane by plane; a few are in memory at a time.

    Args:
        read: gives the label image (H, W) of a plane; those of a frame follow each other.
        frames, depths: how many there are.
        axes: along which planes are compared, of ``z`` and ``t``.
        gap: how many planes may lie between those that are compared.

    Returns:
        the objects, and for each axis those that share pixels.
    """
    look = lru_cache(2 * gap + 3)(lambda plane: numbered(read(plane)))
    found: list[Sections] = []
    starts = np.zeros(frames * depths + 1, np.int64)
    shared: dict[str, list[Shared]] = {axis: [Shared(*np.zeros((3, 0), np.int64))] for axis in axes}
    for plane in range(frames * depths):
        numbers, sections = look(plane)
        found.append(sections._replace(plane=sections.plane + plane))
        starts[plane + 1] = starts[plane] + len(sections.area)
        for axis in axes:
            position, stride = (plane % depths, 1) if axis == "z" else (plane // depths, depths)
            for step in range(1, min(gap + 1, position) + 1):
                earlier = plane - step * stride
                pairs = find_overlaps(look(earlier)[0], numbers)
                shared[axis].append(
                    Shared(starts[earlier] + pairs.true, starts[plane] + pairs.pred, pairs.intersection)
                )
    return Sections(*map(np.concatenate, zip(*found, strict=True))), {
        axis: Shared(*map(np.concatenate, zip(*pairs, strict=True))) for axis, pairs in shared.items()
    }
