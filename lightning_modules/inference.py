"""How a network is applied beyond one pass over the image: test-time augmentation, and tiles of large images."""

from collections.abc import Callable
from itertools import product
from typing import Protocol

import torch
from torch import Tensor

from lightning_modules.symmetry import VIEWS, turn

Pass = Callable[[Tensor], Tensor]
TurnBack = Callable[[Tensor, int, bool], Tensor]


class Inference(Protocol):
    """Applies a network to a batch of images in more than one pass."""

    # Not __call__, by which jsonargparse would take the class for a function's type.
    def apply(self, maps: Pass, turn_back: TurnBack, image: Tensor) -> Tensor:
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

    def apply(self, maps: Pass, turn_back: TurnBack, image: Tensor) -> Tensor:
        # Added up one by one: eight maps of a large image at once would be eight times the memory.
        total = sum(turn_back(maps(turn(image, *view)), *view) for view in VIEWS)
        assert isinstance(total, Tensor)
        return total / len(VIEWS)


class Tiled:
    """Overlapping windows of a large image, blended into one map before anything is decoded.

    Of each window an outer margin is thrown away, where the network could not see enough; within what remains of an
    overlap one window fades into the next. If the margin is at least as wide as the network's view to one side, and
    windows begin at a multiple of its stride, the result is that of one pass over the whole image.

    Args:
        window: height and width, px; smaller images take one pass.
        overlap: of neighbouring windows, px.
        margin: thrown away at each edge that is not the image's, px.
        align: windows begin at multiples of this, px; a multiple of the network's stride.
        inner: what is done with each window, such as `DihedralAverage`; one pass by default.

    Raises:
        ValueError: the overlap does not fit into the window, or the margins not into the overlap.
    """

    def __init__(
        self, window: int = 1024, overlap: int = 256, margin: int = 96, align: int = 32, inner: Inference | None = None
    ) -> None:
        if not 0 <= 2 * margin < overlap <= window // 2 or (window - overlap) % align:
            raise ValueError(
                f"Tiled has windows of {window} px, an overlap of {overlap} px and a margin of {margin} px: the "
                "overlap must be more than two margins and at most half a window, and window less overlap a multiple "
                f"of {align} px."
            )
        self.window, self.overlap, self.margin, self.inner = window, overlap, margin, inner

    def apply(self, maps: Pass, turn_back: TurnBack, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        total: Tensor | None = None
        for rows, columns in product(self.windows(height), self.windows(width)):
            tile = image[..., rows, columns]
            answer = (maps(tile) if self.inner is None else self.inner.apply(maps, turn_back, tile)).cpu()
            if total is None:
                # On the CPU, where maps are decoded: a large image's maps need not fit into the GPU's memory.
                total = torch.zeros(*answer.shape[:-2], height, width)
            total[..., rows, columns] += answer * self.weight(rows, height)[:, None] * self.weight(columns, width)
        assert total is not None, "an image has at least one window"
        return total

    def windows(self, length: int) -> list[slice]:
        """Cuts an axis into overlapping windows; the last may be shorter."""
        starts = range(0, max(length - self.overlap, 1), self.window - self.overlap)
        return [slice(start, min(start + self.window, length)) for start in starts]

    def weight(self, window: slice, length: int) -> Tensor:
        """The share of a window in each of its pixels along an axis; those of all windows add up to 1."""
        position = torch.arange(window.start, window.stop, dtype=torch.float32)
        fade = self.overlap - 2 * self.margin
        weight = torch.ones_like(position)
        if window.start > 0:
            weight *= ((position - window.start - self.margin + 0.5) / fade).clamp(0, 1)
        if window.stop < length:
            weight *= ((window.stop - self.margin - position - 0.5) / fade).clamp(0, 1)
        return weight
