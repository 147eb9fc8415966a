"""What a representation and its decoder owe the segmenter."""

from typing import Protocol

from torch import Tensor
from torch.nn import functional

from lightning_modules.instances import Instances
from lightning_modules.symmetry import turn_back


class Representation(Protocol):
    """What a dense network learns of a label image."""

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Compares the network's output (B, K, H, W) with targets derived from label images (B, H, W)."""
        ...

    def maps(self, output: Tensor) -> Tensor:
        """Turns the network's output (B, K, h, w) into float32 maps (B, K', h, w) that can be averaged and decoded."""
        ...

    def turn_back(self, maps: Tensor, turns: int, flipped: bool) -> Tensor:
        """Undoes `lightning_modules.symmetry.turn` on maps (..., K', H, W) of a turned image.

        Moves the pixels; to be overridden where values depend on the direction.
        """
        return turn_back(maps, turns, flipped)

    def resize(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Brings one image's maps (K', h, w) to its original size (K', H, W).

        Linearly; to be overridden where values depend on the image's scale.
        """
        return resize_maps(maps, size)


class Decoder(Protocol):
    """Finds the objects in maps. Its arguments are inference knobs: they never enter a checkpoint."""

    def __call__(self, maps: Tensor) -> Instances:
        """Decodes float32 maps (K', H, W)."""
        ...

    def probability(self, maps: Tensor) -> Tensor:
        """The foreground's probability (H, W) in maps (K', H, W)."""
        ...


def resize_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes maps (K, h, w) linearly to (K, H, W); for values that do not depend on the image's scale."""
    if maps.shape[-2:] == size:
        return maps
    return functional.interpolate(maps.unsqueeze(0), size=size, mode="bilinear", antialias=True)[0]
