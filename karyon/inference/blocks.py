"""Large images, block by block: memory stays that of a block, and every object is found once, and whole."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from karyon.inference.label_store import blank
from karyon.inference.seams import Near, centred
from karyon.instances import Instances
from karyon.io.lazy_image import Region
from karyon.labels import let_go, new_ids, object_boxes

T = TypeVar("T")
R = TypeVar("R")
Done = TypeVar("Done", covariant=True)

Found = tuple[NDArray[np.float32] | None, Instances]
"""The foreground's probability (H, W), where it is known, and the objects."""
Find = Callable[["Block"], Found]
"""Finds the objects in the region of a block, at the region's size."""


class Pending(Protocol[Done]):
    """Work that has begun, such as on a block."""

    def result(self) -> Done:
        """What became of it, once that is known."""


class Workers(Protocol):
    """Do several things side by side, such as to look at blocks.

    Attributes:
        at_once: how many are in work or waiting.
    """

    @property
    def at_once(self) -> int: ...

    def sharing(self, work: Callable[[T], R]) -> AbstractContextManager[Callable[[T], Pending[R]]]:
        """Shares what is to be done, and gives what begins with it."""


@dataclass(frozen=True)
class Threads:
    """Workers in this process; see `Workers`."""

    at_once: int = 1

    @contextmanager
    def sharing(self, work: Callable[[T], R]) -> Iterator[Callable[[T], Pending[R]]]:
        with ThreadPoolExecutor(self.at_once) as threads:
            try:
                yield lambda item: threads.submit(work, item)
            finally:
                threads.shutdown(wait=True, cancel_futures=True)


class Blocks:
    """Predicts a large image block by block, each with a halo around it.

    Of a block with its halo those objects are kept that have their centre in the block, so that every object is found
    once, and whole. Where two blocks see an object differently, so that it has its centre in neither, the one that has
    it near its edge gives it. If the halo is as wide as the largest object and the network's view to one side together,
    the result is that of predicting the image at once. What is in memory beside one block's maps is the image, a label
    image and a probability, whatever the representation.

    Args:
        block: height and width without the halo, px; smaller images are one block.
        halo: around each block, px.
        align: blocks begin at multiples of this, px; a multiple of the network's stride.

    Attributes:
        workers: look at several blocks side by side; by default one after the other.

    Raises:
        ValueError: block or halo are not multiples of ``align``.
    """

    def __init__(self, block: int = 1024, halo: int = 256, align: int = 32) -> None:
        if block < align or halo < 0 or block % align or halo % align:
            raise ValueError(
                f"Blocks of {block} px with a halo of {halo} px cannot be used: both must be multiples of {align} px."
            )
        self.block, self.halo, self.align = block, halo, align
        self.workers: Workers = Threads(1)

    def by(self, workers: Workers) -> "Blocks":
        """The same blocks, looked at by others."""
        blocks = Blocks(self.block, self.halo, self.align)
        blocks.workers = workers
        return blocks

    def at_scale(self, scale: float) -> "Blocks":
        """Blocks of an image that is seen so many times as large, each with as much around it to see."""

        def aligned(side: float) -> int:
            return math.ceil(side / self.align) * self.align

        halo = aligned(self.halo / scale)
        # Wider halos ask for larger blocks, or most of the work would be theirs.
        block = self.block / scale if scale >= 1 else max(self.block, 2 * halo)
        return Blocks(aligned(block), halo, self.align).by(self.workers)

    def find(
        self,
        size: tuple[int, int],
        find: Find,
        probability: bool = False,
        wanted: Callable[[Region], bool] = lambda region: True,
        report: Callable[[float], None] = lambda share: None,
        once: Callable[[Find, "Block"], Found] | None = None,
    ) -> Found:
        """Puts the objects of all blocks of an image together.

        Blocks are looked at side by side, and put together in their order: the objects and their ids are the same
        whatever their number.

        Args:
            size: height and width of the image, px.
            find: finds the objects in a block; called by each of the workers.
            probability: whether the probability is wanted, too.
            wanted: tells of a block without its halo whether it is to be looked at.
            report: is told the share of blocks before each one that is begun, by this thread.
            once: calls what finds the objects of one of several blocks, or gives what it found in an earlier run.
        """
        labels = blank(size, np.int32)
        whole = blank(size, np.float32) if probability else None
        scores: list[NDArray[np.float32]] = []
        boxes: list[NDArray[np.int64]] = []
        near: list[Near] = []

        def draw(region: Region, objects: Instances) -> None:
            kept, box = _add(labels[region], objects, sum(map(len, scores)))
            scores.append(objects.scores[kept])
            rows, columns = region
            boxes.append(box + np.array([columns.start, rows.start, columns.start, rows.start]))

        cores = [core for core in product(self.cut(size[0]), self.cut(size[1])) if wanted(core)]
        every = [Block.around(core, self.halo, size, number / len(cores)) for number, core in enumerate(cores)]
        work: Find = partial(find_near, find, self.halo // 4)
        if once and len(every) > 1:
            work = partial(once, work)
        workers = self.workers if len(every) > 1 else Threads(1)
        last_of_row = {block.core[0].start: block for block in every}
        for block, (certain, found) in side_by_side(work, begun(every, report), workers):
            own = centred(found, block.core_in_region)
            draw(block.region, found.only(own))
            near += (Near.of(found, int(number), block.region) for number in np.flatnonzero(~own))
            if whole is not None and certain is not None:
                whole[block.core] = certain
            if block is last_of_row[block.core[0].start]:
                near = [each for each in near if each.is_free_in(labels)]
                let_go(labels)
                if whole is not None:
                    let_go(whole)
        if not cores:
            return whole, Instances.from_labels(labels)
        for each in near:
            if any(each.is_seen_as(other) for other in near):
                draw(each.region, each.alone)
        return whole, Instances(labels, np.concatenate(scores), np.concatenate(boxes))

    def cut(self, length: int) -> Iterator[slice]:
        """The cores of blocks along a side of that length, px."""
        for start in range(0, length, self.block):
            yield slice(start, min(start + self.block, length))


def begun(blocks: Sequence["Block"], report: Callable[[float], None]) -> Iterator["Block"]:
    """The blocks, of each of which it is said when it is begun."""
    for block in blocks:
        report(block.share)
        yield block


def side_by_side(work: Callable[[T], R], items: Iterable[T], workers: Workers) -> Iterator[tuple[T, R]]:
    """Each item with what became of it, in order."""
    # In this thread, which may have settings of its own, as in training.
    if workers == Threads(1):
        yield from ((item, work(item)) for item in items)
        return
    with workers.sharing(work) as begin:
        waiting = deque[tuple[T, Pending[R]]]()
        for item in items:
            waiting.append((item, begin(item)))
            if len(waiting) == workers.at_once:
                first, done = waiting.popleft()
                yield first, done.result()
        yield from ((item, done.result()) for item, done in waiting)


@dataclass(frozen=True)
class Block:
    """A block of an image.

    Attributes:
        core: its rows and columns in the image.
        region: those of the block with its halo.
        core_in_region: those of the core, in the region.
        share: of the image's blocks, those that come before this one.
    """

    core: tuple[slice, slice]
    region: tuple[slice, slice]
    core_in_region: tuple[slice, slice]
    share: float

    @classmethod
    def around(cls, core: tuple[slice, slice], halo: int, size: tuple[int, int], share: float = 0.0) -> "Block":
        """The block with that core, in an image of that height and width, px."""
        rows, columns = (
            slice(max(part.start - halo, 0), min(part.stop + halo, length))
            for part, length in zip(core, size, strict=True)
        )
        inner_rows, inner_columns = (
            slice(part.start - whole.start, part.stop - whole.start)
            for part, whole in zip(core, (rows, columns), strict=True)
        )
        return cls(core, (rows, columns), (inner_rows, inner_columns), share)


def find_near(find: Find, margin: int, block: Block) -> Found:
    """The probability of a block without its halo, and those objects that have their centre at most so near it, px."""
    certain, found = find(block)
    near = centred(found, block.core_in_region, margin)
    return None if certain is None else certain[block.core_in_region], found.only(near)


def _add(target: NDArray[np.int32], found: Instances, number: int) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Draws objects of a region into a label image.

    Pixels that an object of another block holds already stay with it; what keeps less than half of its area is the
    same object, found differently, and left out.

    Args:
        target: int32 (h, w), the region of the label image; changed in place.
        found: the objects of the region.
        number: of objects that have been drawn.

    Returns:
        which of the objects were drawn, and their boxes in the region.
    """
    labels, count = found.labels, len(found)
    area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    left = np.bincount(labels[target == 0], minlength=count + 1)[1:]
    kept = 2 * left > area
    drawn = np.where(target == 0, new_ids(kept)[labels], 0)
    target += np.where(drawn > 0, drawn + number, 0).astype(np.int32)
    return kept, object_boxes(drawn)
