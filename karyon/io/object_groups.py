"""Objects of a large label image in groups that lie together, so that what is made of each needs little memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karyon.instances import Instances
from karyon.labels import object_runs

MOST_PIXELS, MOST_OBJECTS = 2**22, 4096  # of a group; the objects of a block have successive ids


@dataclass(frozen=True)
class Group:
    """Objects with successive ids.

    Attributes:
        before: how many objects have lower ids.
        top, left: of the part of the image in which they lie, px.
        labels: int32 (h, w), that part; they are numbered from 1, and others are left out.
    """

    before: int
    top: int
    left: int
    labels: NDArray[np.int32]


def groups(instances: Instances) -> Iterator[Group]:
    """All objects, by ascending id."""
    start, boxes = 0, instances.boxes
    while start < len(boxes):
        some = boxes[start : start + MOST_OBJECTS]
        corners = np.minimum.accumulate(some[:, :2]), np.maximum.accumulate(some[:, 2:])
        fits = np.prod(corners[1] - corners[0], axis=1) <= MOST_PIXELS
        count = max(1, int(np.count_nonzero(np.logical_and.accumulate(fits))))
        (left, top), (right, bottom) = corners[0][count - 1], corners[1][count - 1]
        part = instances.labels[top:bottom, left:right]
        own = (part > start) & (part <= start + count)
        yield Group(start, int(top), int(left), np.where(own, part - start, 0))
        start += count


def runs_of(instances: Instances) -> Iterator[NDArray[np.int64]]:
    """Runs of each object's pixels, as `karyon.labels.object_runs` gives them of the whole label image at once."""
    height = len(instances.labels)
    for group in groups(instances):
        # A row of background, lest a run goes on in the next column where in the image it does not.
        labels = group.labels if len(group.labels) == height else np.pad(group.labels, ((0, 1), (0, 0)))
        for runs in object_runs(labels):
            columns, rows = np.divmod(runs[:, 0] - 1, len(labels))
            yield np.stack([(columns + group.left) * height + rows + group.top + 1, runs[:, 1]], axis=1)
