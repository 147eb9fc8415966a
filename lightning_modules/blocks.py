"""Images too large for their maps to fit into memory: maps and objects of one block after the other."""

import math
from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from lightning_modules.instances import Instances
from lightning_modules.representations.protocol import Decoder


class Blockwise:
    """Predicts and decodes a large image block by block, each with a halo around it.

    Of a block with its halo those objects are kept that have their centre in the block, so that every object is found
    once, and whole. If the halo is as wide as the largest object and the network's view to one side together, the
    result is that of decoding the image at once. What is in memory beside one block's maps is the image, a label image
    and a probability, whatever the representation.

    Args:
        block: height and width without the halo, px; smaller images are one block.
        halo: around each block, px.
        align: blocks begin at multiples of this, px; a multiple of the network's stride.

    Raises:
        ValueError: block or halo are no multiples of ``align``.
    """

    def __init__(self, block: int = 1024, halo: int = 256, align: int = 32) -> None:
        if block < align or halo < 0 or block % align or halo % align:
            raise ValueError(
                f"Blockwise has blocks of {block} px and a halo of {halo} px: both must be multiples of {align} px."
            )
        self.block, self.halo, self.align = block, halo, align

    def at_scale(self, scale: float) -> "Blockwise":
        """Blocks of an image that is looked at so many times as large, each with as much around it to look at."""

        def aligned(side: float) -> int:
            return math.ceil(side / self.align) * self.align

        halo = aligned(self.halo / scale)
        # Wider halos ask for larger blocks, or most of the work would be theirs.
        block = self.block / scale if scale >= 1 else max(self.block, 2 * halo)
        return Blockwise(aligned(block), halo, self.align)

    def decode(self, maps: Callable[[Tensor], Tensor], image: Tensor, decoder: Decoder) -> tuple[Tensor, Instances]:
        """Finds the objects of one image.

        Args:
            maps: makes the maps (1, K, H, W) of an image (1, C, H, W).
            image: (1, C, H, W), at its original size.
            decoder: finds the objects of a block in its maps.

        Returns:
            the foreground's probability (H, W), and the objects.
        """
        probability = torch.empty(image.shape[-2:])

        def find(block: Block) -> Instances:
            region = maps(image[(..., *block.region)])[0].cpu()
            probability[block.core] = decoder.probability(region)[block.core_in_region]
            return decoder(region)

        instances = self.find((image.shape[-2], image.shape[-1]), find)
        return probability, instances

    def find(self, size: tuple[int, int], find: Callable[["Block"], Instances]) -> Instances:
        """Puts the objects of all blocks of an image together.

        Args:
            size: height and width of the image, px.
            find: finds the objects in the region of a block, at the region's size.
        """
        labels = torch.zeros(size, dtype=torch.int32)
        scores: list[Tensor] = []
        boxes: list[Tensor] = []
        cores = list(product(self._cut(size[0]), self._cut(size[1])))
        for number, core in enumerate(cores):
            block = Block(core, self.halo, size, number / len(cores))
            found = find(block)
            kept, box = _add(labels[block.region].numpy(), found, block.core_in_region, sum(map(len, scores)))
            scores.append(found.scores[kept])
            rows, columns = block.region
            boxes.append(box + torch.tensor([columns.start, rows.start, columns.start, rows.start]))
        return Instances(labels, torch.cat(scores), torch.cat(boxes))

    def _cut(self, length: int) -> Iterator[slice]:
        for start in range(0, length, self.block):
            yield slice(start, min(start + self.block, length))


class Block:
    """A block of an image.

    Attributes:
        core: its rows and columns in the image.
        region: those of the block with its halo.
        core_in_region: those of the core, in the region.
        share: of the image's blocks, those that come before this one.
    """

    def __init__(self, core: tuple[slice, slice], halo: int, size: tuple[int, int], share: float = 0.0) -> None:
        self.core, self.share = core, share
        rows, columns = (
            slice(max(part.start - halo, 0), min(part.stop + halo, length))
            for part, length in zip(core, size, strict=True)
        )
        self.region = rows, columns
        inner_rows, inner_columns = (
            slice(part.start - whole.start, part.stop - whole.start)
            for part, whole in zip(core, self.region, strict=True)
        )
        self.core_in_region = inner_rows, inner_columns


def _add(
    target: NDArray[np.int32], found: Instances, core: tuple[slice, slice], number: int
) -> tuple[NDArray[np.bool_], Tensor]:
    """Draws those objects of a region into a label image whose centre lies in the region's core.

    Pixels that an object of another block holds already stay with it; what keeps less than half of its area is the
    same object, found differently, and left out.

    Args:
        target: int32 (h, w), the region of the label image; changed in place.
        found: the objects of the region.
        core: rows and columns of the region's core.
        number: of objects that have been drawn.

    Returns:
        which of the objects were drawn, and their boxes in the region.
    """
    centres = (found.boxes[:, :2] + found.boxes[:, 2:]).numpy() / 2
    inside = [(centres[:, axis] >= part.start) & (centres[:, axis] < part.stop) for axis, part in enumerate(core[::-1])]
    labels, count = found.labels.numpy(), len(found)
    area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    left = np.bincount(labels[target == 0], minlength=count + 1)[1:]
    kept = inside[0] & inside[1] & (2 * left > area)
    ids = np.concatenate([[0], np.where(kept, np.cumsum(kept), 0)])
    drawn = np.where(target == 0, ids[labels], 0)
    target += np.where(drawn > 0, drawn + number, 0)
    boxes = [[x.start, y.start, x.stop, y.stop] for y, x in ndimage.find_objects(drawn)]
    return kept, torch.tensor(boxes, dtype=torch.int64).reshape(-1, 4)
