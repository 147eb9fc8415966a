"""Warping a binary image towards another one without changing its topology, as the warping error does."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label


def warp(cells: NDArray[np.bool_], target: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Flips the pixels in which an image differs from a target, as far as its topology allows.

    Cells are 4-connected, membrane is 8-connected, and beyond the image there is membrane. Only simple points are
    flipped, pixels whose flip neither splits, merges, adds nor removes a cell or a piece of membrane. One flip can make
    a neighbour simple or stop it from being so, hence the pixels are visited in four turns, those of even and odd rows
    and columns: no two pixels of a turn touch, so flipping them at once is flipping them one after another. It ends
    where none of the pixels that still differ is simple. This is greedy, as in the paper: another order of the flips
    can leave a few pixels more or fewer.

    Args:
        cells: (H, W), true inside the cells.
        target: (H, W), the image to approach.

    Returns:
        Bool (H, W), the warped cells.

    Source: Jain et al. 2010, https://doi.org/10.1109/CVPR.2010.5539950

    >>> cells = np.array([[1, 1, 0, 1, 1, 1]], dtype=bool)
    >>> warp(cells, np.array([[1, 1, 1, 0, 1, 1]], dtype=bool)).astype(int)  # the membrane moves
    array([[1, 1, 1, 0, 1, 1]])
    >>> warp(cells, np.array([[1, 1, 1, 1, 1, 1]], dtype=bool)).astype(int)  # but it does not vanish
    array([[1, 1, 0, 1, 1, 1]])
    """
    warped = np.pad(cells, 1)
    # Both are contiguous, so these are views, and a flip shows in `warped`.
    image, differs = warped.ravel(), np.pad(cells != target, 1).ravel()
    width = warped.shape[1]
    steps = np.array([-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1])
    points = np.flatnonzero(differs)
    while len(points):
        turns = 2 * (points // width % 2) + points % width % 2
        flipped = []
        for turn in range(4):
            visited = points[turns == turn]
            patterns = np.packbits(image.take(visited + steps[:, None]), axis=0)[0]
            simple = visited[_simple_patterns().take(patterns)]
            image[simple] = ~image[simple]
            flipped.append(simple)
        changed = np.concatenate(flipped)
        differs[changed] = False
        # A pixel that was not simple can become so only where one of its neighbours was flipped.
        points = pick(differs, changed, steps)
        differs[points] = True
    return warped[1:-1, 1:-1]


def pick(marks: NDArray[np.bool_], pixels: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Unmarks the neighbours of pixels, and lists each one that was marked once.

    Args:
        marks: (N,), an image in a row, with a border of unmarked pixels; changed in place.
        pixels: indices into it, each at most once.
        steps: from a pixel to each of its neighbours.

    Returns:
        Int64 (n,), the indices of the neighbours.
    """
    picked = []
    for step in steps:
        neighbours = pixels + step
        neighbours = neighbours[marks.take(neighbours)]
        marks[neighbours] = False
        picked.append(neighbours)
    return np.concatenate(picked)


@cache
def _simple_patterns() -> NDArray[np.bool_]:
    """Whether a pixel is simple, for each of the 256 patterns of its eight neighbours, row by row as `packbits` has it.

    It is where its neighbours form one piece of cell that shares an edge with it and one piece of membrane.
    """
    simple = np.zeros(256, dtype=bool)
    for pattern in range(256):
        bits = np.unpackbits(np.array([pattern], dtype=np.uint8))
        cell = np.insert(bits, 4, 0).reshape(3, 3)
        membrane = np.insert(1 - bits, 4, 0).reshape(3, 3)
        edges = label(cell, connectivity=1)[[0, 1, 1, 2], [1, 0, 2, 1]]
        simple[pattern] = len(np.unique(edges[edges > 0])) == 1 and label(membrane, connectivity=2).max() == 1
    return simple
