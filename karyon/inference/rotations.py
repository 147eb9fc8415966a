"""The eight rotations and flips of an image, and how they are undone."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

VIEWS = tuple((turns, flipped) for turns in range(4) for flipped in (False, True))
"""Quarter turns, and whether the image is flipped before."""


def turn(image: NDArray[Any], turns: int, flipped: bool) -> NDArray[Any]:
    """Flips images (..., H, W) left to right where asked, then turns them counterclockwise by quarters.

    >>> turn(np.array([[1, 2], [3, 4]]), turns=1, flipped=True)
    array([[1, 3],
           [2, 4]])
    """
    return np.rot90(np.flip(image, -1) if flipped else image, turns, (-2, -1))


def turn_back(image: NDArray[Any], turns: int, flipped: bool) -> NDArray[Any]:
    """Undoes `turn`, for values that turn with the image and stay what they are.

    >>> image = np.arange(6).reshape(2, 3)
    >>> bool((turn_back(turn(image, 3, True), 3, True) == image).all())
    True
    """
    image = np.rot90(image, -turns, (-2, -1))
    return np.flip(image, -1) if flipped else image
