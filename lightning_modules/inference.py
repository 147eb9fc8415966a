"""How a network is applied beyond one pass over the image: test-time augmentation."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from lightning_modules.symmetry import VIEWS, turn

Pass = Callable[[Tensor], Tensor]
TurnBack = Callable[[Tensor, int, bool], Tensor]


class Inference(Protocol):
    """Applies a network to a batch of images in more than one pass."""

    def __call__(self, maps: Pass, turn_back: TurnBack, image: Tensor) -> Tensor:
        """Makes the maps of a batch of images.

        Args:
            maps: makes the maps (B, K, H, W) of images (B, C, H, W) in one pass.
            turn_back: undoes `lightning_modules.symmetry.turn` on maps, as their representation says.
            image: (B, C, H, W).

        Returns:
            (B, K, H, W).
        """
        ...


class DihedralAverage:
    """Test-time augmentation: the mean of the maps over the eight rotations and flips of the image."""

    def __call__(self, maps: Pass, turn_back: TurnBack, image: Tensor) -> Tensor:
        # Added up one by one: eight maps of a large image at once would be eight times the memory.
        total = sum(turn_back(maps(turn(image, *view)), *view) for view in VIEWS)
        assert isinstance(total, Tensor)
        return total / len(VIEWS)
