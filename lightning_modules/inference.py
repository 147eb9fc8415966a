"""How a network is applied beyond one pass over the image: test-time augmentation."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor


class Inference(Protocol):
    """Applies a network to a batch of images in more than one pass."""

    def __call__(self, maps: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
        """Makes the maps (B, K, H, W) of images (B, C, H, W), given a function that does so in one pass."""
        ...


class DihedralAverage:
    """Test-time augmentation: the mean of the maps over the eight rotations and flips of the image.

    The maps must be scalar fields, which turn with the image and keep their values.
    """

    def __call__(self, maps: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
        views = [(turns, flipped) for turns in range(4) for flipped in (False, True)]
        # Added up one by one: eight maps of a large image at once would be eight times the memory.
        total = sum(turn_back(maps(turn(image, *view)), *view) for view in views)
        assert isinstance(total, Tensor)
        return total / len(views)


def turn(image: Tensor, turns: int, flipped: bool) -> Tensor:
    """Flips images (..., H, W) left to right where asked, then turns them by quarters.

    >>> turn(torch.tensor([[1, 2], [3, 4]]), turns=1, flipped=True)
    tensor([[1, 3],
            [2, 4]])
    """
    return torch.rot90(image.flip(-1) if flipped else image, turns, (-2, -1))


def turn_back(image: Tensor, turns: int, flipped: bool) -> Tensor:
    """Undoes `turn`.

    >>> image = torch.arange(6).reshape(2, 3)
    >>> bool((turn_back(turn(image, 3, True), 3, True) == image).all())
    True
    """
    image = torch.rot90(image, -turns, (-2, -1))
    return image.flip(-1) if flipped else image
