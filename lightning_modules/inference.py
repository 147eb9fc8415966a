"""How a network is applied beyond one pass over the image: turned and flipped, in tiles, or at another scale."""

from itertools import product
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from lightning_modules.instances import Instances, median_diameter
from lightning_modules.representations.protocol import Decoder, Representation
from lightning_modules.symmetry import VIEWS, turn

FEWEST = 5  # objects of which a median says something
LARGEST = 3.0  # times as large an image is looked at, since memory and time grow with the square


class Segmenter(Protocol):
    """What is applied: a network, and what its maps mean."""

    @property
    def representation(self) -> Representation: ...

    @property
    def decoder(self) -> Decoder: ...

    def maps_once(self, image: Tensor) -> Tensor:
        """Makes the maps (B, K, H, W) of images (B, C, H, W) in one pass."""
        ...


class Inference(Protocol):
    """Applies a network to a batch of images in more than one pass."""

    # Not __call__, by which jsonargparse would take the class for a function's type.
    def apply(self, segmenter: Segmenter, image: Tensor) -> Tensor:
        """Makes the maps (B, K, H, W) of a batch of images (B, C, H, W)."""
        ...


class Once:
    """One pass over the image as it is."""

    def apply(self, segmenter: Segmenter, image: Tensor) -> Tensor:
        return segmenter.maps_once(image)


class DihedralAverage:
    """Test-time augmentation: the mean of the maps over the eight rotations and flips of the image."""

    def apply(self, segmenter: Segmenter, image: Tensor) -> Tensor:
        turn_back = segmenter.representation.turn_back
        # Added up one by one: eight maps of a large image at once would be eight times the memory.
        total = sum(turn_back(segmenter.maps_once(turn(image, *view)), *view) for view in VIEWS)
        assert isinstance(total, Tensor)
        return total / len(VIEWS)


class Rescaled:
    """Looks at the image at another scale; the maps come back at the image's own size.

    Args:
        scale: how many times as large the image is looked at.
        inner: what is done at that scale; one pass by default.
    """

    def __init__(self, scale: float, inner: Inference | None = None) -> None:
        self.scale, self.inner = scale, inner or Once()

    def apply(self, segmenter: Segmenter, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        seen = size_at(self.scale, height, width)
        resized = functional.interpolate(image, size=seen, mode="bilinear", antialias=True)
        maps = self.inner.apply(segmenter, resized)
        return torch.stack([segmenter.representation.resize(single, (height, width)) for single in maps])


class EnlargeSmall:
    """Looks again, enlarged, at an image whose objects are smaller than those that the network knows best.

    What a first look finds tells how large they are; an image of large objects stays as it is, since networks that were
    trained on several scales lose more by the coarser pixels of a shrunken one.

    Args:
        diameter: median of the objects' diameters (of discs of equal areas) to which an image is enlarged, px; three
            times as large at most.
        inner: what is done at each look; one pass by default.
    """

    def __init__(self, diameter: float, inner: Inference | None = None) -> None:
        self.diameter, self.inner = diameter, inner or Once()

    def apply(self, segmenter: Segmenter, image: Tensor) -> Tensor:
        return torch.cat([self._apply(segmenter, single) for single in image.split(1)])

    def _apply(self, segmenter: Segmenter, image: Tensor) -> Tensor:
        maps = self.inner.apply(segmenter, image)
        scale = enlargement(self.diameter, segmenter.decoder(maps[0]))
        height, width = image.shape[-2:]
        same = size_at(scale, height, width) == (height, width)
        return maps if same else Rescaled(scale, self.inner).apply(segmenter, image)


def enlargement(diameter: float, found: Instances) -> float:
    """How many times as large an image is to be looked at, from 1 to 3.

    Args:
        diameter: that the median of its objects is to have, px.
        found: at first; of too few nothing is known.

    >>> stripes = Instances.from_labels(torch.arange(1, 6).repeat(113, 1))  # five of 113 px, as discs of 12 px have
    >>> [round(enlargement(diameter, stripes), 2) for diameter in (24, 3, 72)]
    [2.0, 1.0, 3.0]
    """
    return min(max(diameter / median_diameter(found), 1.0), LARGEST) if len(found) >= FEWEST else 1.0


def size_at(scale: float, height: int, width: int) -> tuple[int, int]:
    """Height and width of an image that is looked at so many times as large, px."""
    return max(1, round(height * scale)), max(1, round(width * scale))


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
        self.window, self.overlap, self.margin, self.inner = window, overlap, margin, inner or Once()

    def apply(self, segmenter: Segmenter, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        total: Tensor | None = None
        for rows, columns in product(self.windows(height), self.windows(width)):
            tile = image[..., rows, columns]
            answer = self.inner.apply(segmenter, tile).cpu()
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
