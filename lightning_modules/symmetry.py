"""The eight rotations and flips of an image, and how they are undone."""

from torch import Tensor, rot90

VIEWS = tuple((turns, flipped) for turns in range(4) for flipped in (False, True))
"""Quarter turns, and whether the image is flipped before."""


def turn(image: Tensor, turns: int, flipped: bool) -> Tensor:
    """Flips images (..., H, W) left to right where asked, then turns them counterclockwise by quarters.

    >>> import torch
    >>> turn(torch.tensor([[1, 2], [3, 4]]), turns=1, flipped=True)
    tensor([[1, 3],
            [2, 4]])
    """
    return rot90(image.flip(-1) if flipped else image, turns, (-2, -1))


def turn_back(image: Tensor, turns: int, flipped: bool) -> Tensor:
    """Undoes `turn`, for values that turn with the image and stay what they are.

    >>> import torch
    >>> image = torch.arange(6).reshape(2, 3)
    >>> bool((turn_back(turn(image, 3, True), 3, True) == image).all())
    True
    """
    image = rot90(image, -turns, (-2, -1))
    return image.flip(-1) if flipped else image
