"""Outlines of objects on the image itself, neighbours in different colours."""

from collections import Counter, defaultdict

import cv2
import numpy as np
from numpy.typing import NDArray

from karyon.labels import LabelImage
from karyon.pictures.jet import UNKNOWN, Picture

# Light enough to stand out from dark and from stained images. For the colour-blind of any kind each two differ by
# more than 20 in Lab; two of Okabe's and Ito's by 16, and some of theirs are dark.
PALETTE = np.array(
    [(255, 204, 51), (102, 204, 255), (255, 102, 153), (153, 204, 102), (204, 102, 255), (153, 153, 0)], np.uint8
)


def outline(picture: Picture, labels: LabelImage, colours: NDArray[np.intp], width: int = 1) -> Picture:
    """Draws the outlines of objects, inside of them; what is not annotated becomes grey.

    Args:
        picture: uint8 (H, W, 3) RGB.
        labels: integers (H, W), 0 is background, -1 not annotated.
        colours: of each id, its place in `PALETTE`.
        width: of a line, px.

    Returns:
        uint8 (H, W, 3) RGB.
    """
    drawn, inside = picture.copy(), labels
    drawn[labels < 0] = drawn[labels < 0] // 2 + np.array(UNKNOWN, np.uint8) // 2
    for _ in range(width):
        line = rim(inside)
        drawn[line] = PALETTE[colours[labels[line]]]
        inside = np.where(line, 0, inside)
    return drawn


def rim(labels: LabelImage) -> NDArray[np.bool_]:
    """The pixels of objects that have a pixel above, below or beside them that is not the object's, bool (H, W)."""
    framed = np.pad(labels, 1, mode="edge")
    neighbours = (framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:])
    differs = np.logical_or.reduce([neighbour != labels for neighbour in neighbours])
    return differs & (labels > 0)


def colour_neighbours(labels: LabelImage) -> NDArray[np.intp]:
    """Chooses colours so that objects next to each other, with or without a gap, differ.

    Args:
        labels: integers (H, W), 0 is background, -1 not annotated.

    Returns:
        of each id from 0, its place in `PALETTE`; the most frequent ones come first.

    >>> colour_neighbours(np.array([[1, 1, 0, 3, 2, 2]]))
    array([0, 1, 1, 0])
    """
    colours = np.zeros(max(int(labels.max(initial=0)), 0) + 1, np.intp)
    adjacent: defaultdict[int, set[int]] = defaultdict(set)
    for one, other in _neighbours(labels).tolist():
        adjacent[one].add(other)
        adjacent[other].add(one)
    chosen: dict[int, int] = {}
    # Those with most neighbours first: then few colours do.
    for number in sorted(adjacent, key=lambda number: -len(adjacent[number])):
        taken = Counter(chosen[other] for other in adjacent[number] if other in chosen)
        chosen[number] = min(range(len(PALETTE)), key=lambda colour: (taken[colour], colour))
    for number, colour in chosen.items():
        colours[number] = colour
    return colours


def _neighbours(labels: LabelImage) -> NDArray[np.int64]:
    """Pairs (n, 2) of objects between which no other one lies: whose parts of the plane, to the nearest one, touch."""
    inside = labels > 0
    if not inside.any():
        return np.zeros((0, 2), np.int64)
    _, place = cv2.distanceTransformWithLabels(
        (~inside).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_place = np.zeros(int(place.max()) + 1, np.int64)
    of_place[place[inside]] = labels[inside]
    nearest = of_place[place]
    sides = ((nearest[1:], nearest[:-1]), (nearest[:, 1:], nearest[:, :-1]))
    pairs = np.concatenate([np.stack([one[one != other], other[one != other]], axis=1) for one, other in sides])
    return np.unique(np.sort(pairs, axis=1), axis=0)
