"""Overlays put together: several images in one picture, or one image as a model improves on it."""

from collections.abc import Sequence

import cv2
import numpy as np

from karyon.pictures.jet import Picture
from karyon.pictures.overlay import CAPTION, GAP, PAPER


def panels_of(overlay: Picture) -> list[Picture]:
    """The panels that `side_by_side` has laid out, without their captions: two or three pictures of one size.

    >>> from karyon.pictures.overlay import side_by_side
    >>> [panel.shape for panel in panels_of(side_by_side(np.eye(8), np.eye(8, dtype=int)))]
    [(512, 512, 3), (512, 512, 3)]
    """
    width = overlay.shape[1] + GAP
    # As many as have a gap after the first.
    count = next(n for n in (3, 2, 1) if width % n == 0 and (overlay[:, width // n - GAP : width // n] == PAPER).all())
    return [overlay[CAPTION:, k * width // count : (k + 1) * width // count - GAP] for k in range(count)]


def densest(panels: Sequence[Picture], side: int) -> list[Picture]:
    """Of each panel the same square of at most `side` px: where the last one differs from the first in most pixels."""
    drawn = (panels[-1] != panels[0]).any(axis=2)
    side = min(side, *drawn.shape)
    sums = cv2.integral(drawn.astype(np.uint8))
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(inside.argmax(), inside.shape)
    return [panel[top : top + side, left : left + side] for panel in panels]


def resized(picture: Picture, width: int) -> Picture:
    """The picture in another width, px, and of the same proportions."""
    method = cv2.INTER_AREA if width < picture.shape[1] else cv2.INTER_CUBIC
    height = round(picture.shape[0] * width / picture.shape[1])
    return cv2.resize(picture, (width, height), interpolation=method).astype(np.uint8)


def row(pictures: Sequence[Picture]) -> Picture:
    """Pictures of one height from left to right, a gap between them."""
    return column([picture.swapaxes(0, 1) for picture in pictures]).swapaxes(0, 1)


def column(pictures: Sequence[Picture]) -> Picture:
    """Pictures of one width above each other, a gap between them."""
    gap = np.full((GAP, pictures[0].shape[1], 3), PAPER, np.uint8)
    return np.concatenate([part for picture in pictures for part in (gap, picture)][1:])
