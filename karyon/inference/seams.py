"""Objects at the seams of blocks, which neighbours may see differently."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karyon.instances import Instances
from karyon.io.lazy_image import Region


def centred(found: Instances, region: Region, margin: int = 0) -> NDArray[np.bool_]:
    """Which objects have their centre in a region, or at most so near it, px; (N,)."""
    centres = (found.boxes[:, 1::-1] + found.boxes[:, :1:-1]) / 2
    first, end = np.array([[part.start - margin, part.stop + margin] for part in region]).T
    return np.all((centres >= first) & (centres < end), axis=1)


@dataclass(frozen=True)
class Near:
    """An object that a block sees with its centre in another one.

    Attributes:
        seen: region of the block that sees it.
        region: its box in the image.
        mask: its pixels in the box.
        score: of the object.
    """

    seen: Region
    region: Region
    mask: NDArray[np.bool_]
    score: NDArray[np.float32]

    @classmethod
    def of(cls, found: Instances, number: int, seen: Region) -> "Near":
        """One of the objects of a block's region, counted from 0."""
        left, top, right, bottom = map(int, found.boxes[number])
        mask = found.labels[top:bottom, left:right] == number + 1
        above, before = seen[0].start, seen[1].start
        region = slice(above + top, above + bottom), slice(before + left, before + right)
        return cls(seen, region, mask, found.scores[number : number + 1])

    @property
    def alone(self) -> Instances:
        """It alone in its box."""
        return Instances.from_labels(self.mask.astype(np.int32), self.score)

    def is_free_in(self, labels: NDArray[np.int32]) -> bool:
        """Whether less than half of it lies in other objects."""
        return bool(2 * np.count_nonzero(labels[self.region][self.mask]) < np.count_nonzero(self.mask))

    def is_seen_as(self, other: "Near") -> bool:
        """Whether another block sees it, too: most of it lies in what that sees."""
        rows, columns = (
            slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(self.region, other.region, strict=True)
        )
        if self.seen is other.seen or rows.start >= rows.stop or columns.start >= columns.stop:
            return False
        both = self._in(rows, columns) & other._in(rows, columns)
        return bool(2 * np.count_nonzero(both) > np.count_nonzero(self.mask))

    def _in(self, rows: slice, columns: slice) -> NDArray[np.bool_]:
        above, before = self.region[0].start, self.region[1].start
        return self.mask[rows.start - above : rows.stop - above, columns.start - before : columns.stop - before]
