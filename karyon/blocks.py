"""Objects of a large image, found block by block and put together."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

import torch

from lightning_modules.instances import Instances


@dataclass(frozen=True)
class Block:
    """A part of an image.

    Attributes:
        seen: rows and columns of the part, with a rim that it shares with its neighbours.
        inner: those of its rows and columns, of the image, that are a quarter of the overlap away from an edge beyond
            which the image goes on.
    """

    seen: tuple[slice, slice]
    inner: tuple[slice, slice]


def cut(size: tuple[int, int], block: int, overlap: int) -> Iterator[Block]:
    """Cuts an image into blocks.

    Args:
        size: height and width, px.
        block: side of what is seen at once, px.
        overlap: of neighbouring blocks, px.

    >>> [(block.seen[1], block.inner[1]) for block in cut((1, 20), 12, 4)]
    [(slice(0, 12, None), slice(0, 11, None)), (slice(8, 20, None), slice(9, 20, None))]
    """
    for (rows, inner_rows), (columns, inner_columns) in product(*(_axis(side, block, overlap) for side in size)):
        yield Block((rows, columns), (inner_rows, inner_columns))


def _axis(length: int, block: int, overlap: int) -> list[tuple[slice, slice]]:
    starts = range(0, max(length - overlap, 1), block - overlap)
    pairs = []
    for start in starts:
        stop = min(start + block, length)
        inner = slice(start + overlap // 4 if start else 0, stop - overlap // 4 if stop < length else stop)
        pairs.append((slice(start, stop), inner))
    return pairs


def stitch(size: tuple[int, int], parts: Iterable[tuple[Block, Instances]]) -> Instances:
    """Puts the objects of blocks together.

    A block tells of the objects whose boxes have their middle within its inner part: it sees them whole if they are no
    longer than half the overlap. Of what two blocks tell the first one's answer stands; an object more than half of
    which is taken already is left out.

    Args:
        size: height and width of the image, px.
        parts: blocks, each with its objects at the size of what it sees.
    """
    labels = torch.zeros(size, dtype=torch.int64)
    scores: list[torch.Tensor] = []
    count = 0
    for block, instances in parts:
        here = labels[block.seen]
        candidates = torch.where(here == 0, instances.labels, 0)
        area, free = (
            torch.bincount(image.flatten(), minlength=len(instances) + 1) for image in (instances.labels, candidates)
        )
        keep = torch.cat([torch.zeros(1, dtype=torch.bool), _is_inner(instances, block)]) & (2 * free >= area)
        number = torch.where(keep, count + keep.cumsum(0), 0)
        here += number[candidates]
        scores.append(instances.scores[keep[1:]])
        count += int(keep.sum())
    return Instances.from_labels(labels, torch.cat(scores))


def _is_inner(instances: Instances, block: Block) -> torch.Tensor:
    rows, columns = block.seen
    middle = (instances.boxes[:, :2] + instances.boxes[:, 2:]) // 2 + torch.tensor([columns.start, rows.start])
    first, last = torch.tensor([[part.start, part.stop - 1] for part in block.inner[::-1]]).T
    return ((middle >= first) & (middle <= last)).all(1)
