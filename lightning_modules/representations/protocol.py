"""What a representation and its decoder owe the segmenter."""

from typing import Protocol

from torch import Tensor

from lightning_modules.instances import Instances


class Representation(Protocol):
    """What a dense network learns of a label image."""

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Compares the network's output (B, K, H, W) with targets derived from label images (B, H, W)."""
        ...

    def maps(self, output: Tensor, size: tuple[int, int]) -> Tensor:
        """Turns one image's output (K, h, w) into float32 maps (K', H, W) to decode, at the original size."""
        ...


class Decoder(Protocol):
    """Finds the objects in maps. Its arguments are inference knobs: they never enter a checkpoint."""

    def __call__(self, maps: Tensor) -> Instances:
        """Decodes float32 maps (K', H, W)."""
        ...

    def probability(self, maps: Tensor) -> Tensor:
        """The foreground's probability (H, W) in maps (K', H, W)."""
        ...
