"""Star polygons as sets of pixels: which of many survive non-maximum suppression, and how the survivors are drawn.

A polygon is a centre, a pixel, and its distances to the boundary along R rays at equal angles, the first to the right
and the next ones further down. A pixel belongs to it if its centre lies inside.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Indices = NDArray[np.int32]
Floats = NDArray[np.floating[Any]]

SHORTEST = 1e-3  # px, as StarDist has it
ROUNDING = 1e-6  # a pixel's centre on the edge, but for rounding, lies inside
BLOCK = 2**22  # pixels tested at once; bounds the memory of `_covered`
BATCH = 2**23  # px, area of the polygons added at once; bounds the memory of all functions here


def suppress(points: Integers, distances: Floats, overlap: float) -> Integers:
    """Greedy non-maximum suppression: a polygon survives unless it overlaps too much with a better one that survives.

    The overlap of two polygons is their intersection over the smaller one's area, as StarDist has it, both counted in
    pixels. Time and memory grow with the total area of the polygons, not with the number of pairs: in each round every
    pixel knows the best undecided polygon that covers it, a polygon that is the best on all of its pixels survives, and
    those that overlap too much with it are dropped.

    Args:
        points: int64 (n, 2), rows and columns of the centres, px; the best polygon first.
        distances: float32 (n, R), px.
        overlap: the largest that is allowed.

    Returns:
        int64 (k,), positions of the survivors, ascending.

    Source: Schmidt et al. 2018, "Cell detection with star-convex polygons", section 2.2.

    >>> suppress(np.array([[5, 5], [5, 6], [5, 12]]), np.full((3, 8), 4, np.float32), overlap=0.4)
    array([0, 2])
    """
    survivors = np.arange(0)
    # Survivors and further polygons together are decided as all polygons together: whom the dropped ones overlap does
    # not matter.
    for batch in _batches(distances):
        contenders = np.concatenate([survivors, batch])
        survivors = contenders[_survive(points[contenders], distances[contenders], overlap)]
    return survivors


def _survive(points: Integers, distances: Floats, overlap: float) -> NDArray[np.bool_]:
    margin = _reach(distances).max()
    height, width = np.ptp(points, axis=0) + 2 * margin + 1
    owner, pixel = _covered(points - points.min(axis=0) + margin, distances, width)
    area = np.bincount(owner)
    survives, undecided = np.zeros((2, len(points)), dtype=bool)
    undecided[:] = True
    best = np.empty(height * width, dtype=np.int32)
    while len(owner):
        best[pixel] = len(points)
        np.minimum.at(best, pixel, owner)
        winner = best[pixel]
        beaten = np.flatnonzero(winner != owner)
        free = undecided.copy()
        free[owner[beaten]] = False
        survives |= free
        undecided &= ~free
        # A free polygon has won all that it shares with others, so that its intersections can be counted.
        beaten = beaten[free[winner[beaten]]]
        loser, shared = _overlaps(owner[beaten], winner[beaten], area)
        undecided[loser[shared > overlap]] = False
        keep = undecided[owner]
        owner, pixel = owner[keep], pixel[keep]
    return survives


def _overlaps(first: Indices, second: Indices, area: Integers) -> tuple[Integers, NDArray[np.float64]]:
    """The first polygon of each pair, and how often the pair is listed over the smaller one's area."""
    # Pixels of a row follow each other, so most pairs are those before them.
    change = np.flatnonzero((first[1:] != first[:-1]) | (second[1:] != second[:-1]))
    starts = np.concatenate([[0], change + 1])[: len(first)]
    length = np.diff(starts, append=len(first))
    pairs, place = np.unique(first[starts].astype(np.int64) * len(area) + second[starts], return_inverse=True)
    one, other = np.divmod(pairs, len(area))
    return one, np.bincount(place, length, minlength=len(pairs)) / np.minimum(area[one], area[other])


def highest(points: Integers, distances: Floats, image: Floats) -> NDArray[np.bool_]:
    """Finds the polygons in which no pixel surpasses the centre.

    Args:
        points: int64 (n, 2), rows and columns of the centres, px.
        distances: float32 (n, R), px.
        image: float32 (H, W), not negative.

    Returns:
        bool (n,).

    >>> highest(np.array([[0, 0], [0, 2]]), np.full((2, 4), 1.5, np.float32), np.array([[2, 5, 3, 4]], np.float32))
    array([False, False])
    """
    margin = _reach(distances).max(initial=0)
    framed = np.pad(image, margin)
    keep = np.ones(len(points), dtype=bool)
    for batch in _batches(distances):
        owner, pixel = _covered(points[batch] + margin, distances[batch], framed.shape[1])
        centre = image[points[batch, 0], points[batch, 1]]
        keep[batch[owner[framed.ravel()[pixel] > centre[owner]]]] = False
    return keep


def draw(points: Integers, distances: Floats, size: tuple[int, int]) -> Integers:
    """Draws polygons, the better ones over the others.

    Args:
        points: int64 (n, 2), rows and columns of the centres, px; the best polygon first.
        distances: float32 (n, R), px.
        size: height and width, px.

    Returns:
        int64 (H, W): 0 is background, k + 1 is polygon k.

    >>> draw(np.array([[0, 0], [0, 2]]), np.array([[1.5] * 4, [0.5] * 4], np.float32), (2, 4))
    array([[1, 1, 2, 0],
           [1, 0, 0, 0]])
    """
    margin = _reach(distances).max(initial=0)
    height, width = size[0] + 2 * margin, size[1] + 2 * margin
    best = np.full(height * width, len(points), dtype=np.int32)
    owner, pixel = _covered(points + margin, distances, width)
    np.minimum.at(best, pixel, owner)
    best = best.reshape(height, width)[margin : margin + size[0], margin : margin + size[1]]
    return (best + np.int64(1)) % (len(points) + 1)


def _covered(points: Integers, distances: Floats, width: int) -> tuple[Indices, Indices]:
    """Lists the pixels of polygons, in a flattened image of this width that holds them all.

    Returns:
        The number of the polygon and the position of the pixel; those of a polygon follow each other.
    """
    closeness = 1 / np.maximum(distances, SHORTEST)
    closeness = np.concatenate([closeness, closeness[:, :1]], axis=1)
    start = (points[:, 0] * width + points[:, 1]).astype(np.int32)
    owners, pixels = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
    reach = _reach(distances)
    # Of polygons of similar reach the same offsets from the centre are tested.
    for radius in np.unique(reach):
        row, column, ray, weight, next_weight = _offsets(radius, distances.shape[1])
        shift = (row * width + column).astype(np.int32)
        members = np.flatnonzero(reach == radius).astype(np.int32)
        for block in np.array_split(members, math.ceil(len(members) * len(row) / BLOCK)):
            near = closeness[block]
            inside = near.take(ray, axis=1) * weight + near.take(ray + 1, axis=1) * next_weight <= 1
            which, offset = np.nonzero(inside)
            owners.append(block[which])
            pixels.append(start[block][which] + shift[offset])
    return np.concatenate(owners), np.concatenate(pixels)


def _offsets(radius: int, rays: int) -> tuple[Integers, Integers, Integers, Floats, Floats]:
    """Offsets from a centre within a radius: row, column, the ray before it, and the offset as a sum along two rays.

    An offset is a multiple of the unit vector along the ray before it plus one of that along the next ray. The first
    over the first ray's distance and the second over the second's add up to 1 on the polygon's edge, to less inside.
    """
    row, column = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1)
    length = np.hypot(row, column)
    near = length <= radius
    row, column, length = row[near], column[near], length[near]
    sector = 2 * math.pi / rays
    angle = np.arctan2(row, column) % (2 * math.pi)
    ray = np.minimum(angle // sector, rays - 1).astype(np.int64)
    angle -= ray * sector
    length *= (1 - ROUNDING) / math.sin(sector)
    weight, next_weight = length * np.sin(sector - angle), length * np.sin(angle)
    return row, column, ray, weight.astype(np.float32), next_weight.astype(np.float32)


def _batches(distances: Floats) -> list[Integers]:
    """Splits polygons, kept in order, into batches whose total area is bounded."""
    batch = np.cumsum(_areas(distances) + 1) // BATCH
    return np.split(np.arange(len(distances)), np.flatnonzero(np.diff(batch)) + 1) if len(distances) else []


def _reach(distances: Floats) -> Integers:
    """Radius around the centre that holds the polygon, in coarse steps, px."""
    return np.ceil(distances.max(axis=1, initial=1) / 4).astype(np.int64) * 4


def _areas(distances: Floats) -> Floats:
    """Areas of polygons, px.

    >>> _areas(np.full((1, 4), 2, np.float32))
    array([8.], dtype=float32)
    """
    sector = 2 * math.pi / distances.shape[1]
    return np.float32(math.sin(sector) / 2) * (distances * np.roll(distances, -1, axis=1)).sum(axis=1)
