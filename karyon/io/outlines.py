"""Outlines of objects along the edges of their pixels, so that they hold exactly what the label image holds."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from karyon.labels import LabelImage

Ring = NDArray[np.int64]
"""(n, 2) corners x, y in px, (0, 0) the upper left corner of the image; the last joins the first."""
Polygon = list[Ring]
"""The outer ring, clockwise on a screen, and a ring around each hole, counterclockwise."""

Integers = NDArray[np.integer[Any]]

RIGHT, DOWN, LEFT, UP = range(4)


def outlines(labels: LabelImage) -> list[list[Polygon]]:
    """Finds the polygons of each object, all in one pass over the image.

    Pixels that meet at a corner only belong to different polygons, and no ring meets itself: the polygons are valid
    in the sense of OGC's Simple Features.

    Args:
        labels: integers (H, W), 1..N without gaps, 0 is background.

    Returns:
        of each object by ascending id a polygon for each of its 4-connected parts.

    >>> [[polygon]] = outlines(np.array([[0, 1, 1]]))
    >>> polygon[0].tolist()
    [[1, 0], [3, 0], [3, 1], [1, 1]]
    """
    # Not needed for most results, and slow to import.
    from skimage.measure import label as connected_components

    parts = connected_components(np.pad(labels, 1), background=0, connectivity=1)
    owner, direction, first_part = _edges(parts)
    width = parts.shape[1]
    following, corner = _successors(parts, owner, direction)
    # Where an edge begins, numbered like the pixels whose upper left corner it is.
    vertex = owner + np.array([0, 1, width + 1, width])[direction]
    polygons: list[list[list[int]]] = [[] for _ in range(int(parts.max()))]
    for part, rings in _walk(first_part.tolist(), following.tolist(), corner.tolist(), vertex.tolist()):
        polygons[part - 1] += rings
    objects: list[list[Polygon]] = [[] for _ in range(int(labels.max(initial=0)))]
    # A part's first edge is the upper one of its first pixel.
    first_pixels = owner[np.unique(first_part, return_index=True)[1]]
    ids = labels.ravel()[(first_pixels // width - 1) * (width - 2) + first_pixels % width - 1]
    for number, polygon in zip(ids.tolist(), polygons, strict=True):
        objects[number - 1].append([_corners(np.array(ring), width) for ring in polygon])
    return objects


def _corners(vertices: NDArray[np.int64], width: int) -> Ring:
    return np.stack([vertices % width - 1, vertices // width - 1], axis=1)


def _edges(parts: Integers) -> tuple[Integers, Integers, Integers]:
    """Edges between a part and what is not that part, with the part to the right of whom walks along them.

    Returns:
        of each edge the position of its pixel in the flattened image and its direction, by ascending direction and
        position; and the part of each edge to the right, of which every ring has one.
    """
    flat = parts.ravel()
    width = parts.shape[1]
    owners = [
        # The frame of background keeps the neighbours of a part's pixel from being those across the image.
        np.flatnonzero((flat > 0) & (flat != np.roll(flat, offset)))
        for offset in (width, -1, -width, 1)
    ]
    direction = np.repeat(np.arange(4), [len(owner) for owner in owners])
    return np.concatenate(owners), direction, flat[owners[RIGHT]]


def _successors(parts: Integers, owner: Integers, direction: Integers) -> tuple[Integers, NDArray[np.bool_]]:
    """The edge that follows each edge along its part, and whether an edge begins at a corner."""
    flat, width = parts.ravel(), parts.shape[1]
    ahead = owner + np.array([1, width, -1, -width])[direction]
    diagonal = ahead + np.array([-width, 1, width, -1])[direction]
    straight = flat[ahead] == flat[owner]
    outwards = straight & (flat[diagonal] == flat[owner])
    next_owner = np.where(outwards, diagonal, np.where(straight, ahead, owner))
    turn = np.where(outwards, -1, np.where(straight, 0, 1))
    key = direction * flat.size + owner
    following = np.searchsorted(key, (direction + turn) % 4 * flat.size + next_owner)
    corner = np.zeros(len(owner), bool)
    corner[following[turn != 0]] = True
    return following, corner


def _walk(
    first_part: list[int], following: list[int], corner: list[bool], vertex: list[int]
) -> list[tuple[int, list[list[int]]]]:
    """Walks along every ring; a ring that meets itself at a corner is cut there into several.

    Returns:
        a part, and rings of it as the vertices of their corners; a part's outer ring comes first, because the upper
        edge of its first pixel belongs to it and is nowhere near a cut.
    """
    walked = bytearray(len(following))
    found = []
    for start, part in enumerate(first_part):
        ring: list[int] = []
        cut: list[list[int]] = []
        place: dict[int, int] = {}
        edge = start
        while not walked[edge]:
            walked[edge] = 1
            if corner[edge]:
                here = vertex[edge]
                if here in place:
                    loop = ring[place[here] :]
                    del ring[place[here] :]
                    for passed in loop:
                        del place[passed]
                    cut.append(loop)
                place[here] = len(ring)
                ring.append(here)
            edge = following[edge]
        if ring:
            found.append((part, [ring, *cut]))
    return found
