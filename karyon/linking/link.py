"""Planes and frames of a stack of label images, linked: 3-D objects, tracks, tracks of 3-D objects."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karyon.errors import DataError
from karyon.labels import LabelImage
from karyon.linking.frames import Bodies, link_frames
from karyon.linking.planes import link_planes
from karyon.linking.sections import Sections, Shared, numbered, scan

KNOWN = ("ZYX", "TYX", "TZYX")


@dataclass(frozen=True)
class Rules:
    """What may be linked.

    Attributes:
        distance: that an object moves from frame to frame at most, px; None for the median diameter of the objects.
        min_overlap: share of the smaller object that lies in the other, at least, in [0, 1]: of planes; and of frames,
            where the objects are farther from each other than ``distance``.
        gap: planes, or frames, in which an object may be missing between two in which it is seen.
        neck: objects that touch each other in depth are cut where a section is smaller than this share of the largest
            ones above and below; 0 cuts nowhere.
        min_planes: 3-D objects of fewer planes are left out.
    """

    distance: float | None = None
    min_overlap: float = 0.5
    gap: int = 1
    neck: float = 0.5
    min_planes: int = 1


@dataclass(frozen=True)
class Links:
    """What belongs together in a stack.

    Attributes:
        sections: the objects of each plane.
        owner: int64 (n,), number of each section's object in ``bodies``, from 0; -1 where it is left out.
        bodies: the objects of each frame, 2-D or 3-D.
        numbers: int64 (m,), of each of them the id in the linked stack, from 1; those of a track have one.
        parents: int64 (N,), of the ids 1..N the parent's, 0 where there is none; None where frames are not linked.
        distance: that an object has moved from frame to frame at most, px; 0 where frames are not linked.
    """

    sections: Sections
    owner: NDArray[np.int64]
    bodies: Bodies
    numbers: NDArray[np.int64]
    parents: NDArray[np.int64] | None = None
    distance: float = 0.0

    @property
    def ids(self) -> NDArray[np.int64]:
        """Of each section the id in the linked stack; 0 where it is left out."""
        return np.append(self.numbers, 0)[self.owner]

    def plane(self, number: int, labels: LabelImage) -> NDArray[np.int64]:
        """A plane's label image (H, W) with the ids of the linked stack."""
        first, last = np.searchsorted(self.sections.plane, [number, number + 1])
        return np.append(0, np.append(self.numbers, 0)[self.owner[first:last]])[numbered(labels)[0]]

    @property
    def tracks(self) -> NDArray[np.int64]:
        """Tracks as in the Cell Tracking Challenge's ``res_track.txt``: int64 (N, 4), id, begin, end, parent.

        Begin and end are the first and the last frame, from 0.
        """
        assert self.parents is not None, "frames were linked"
        begin, end = np.full(len(self.parents), np.iinfo(np.int64).max), np.zeros(len(self.parents), np.int64)
        np.minimum.at(begin, self.numbers - 1, self.bodies.frame)
        np.maximum.at(end, self.numbers - 1, self.bodies.frame)
        return np.stack([np.arange(1, len(begin) + 1), begin, end, self.parents], axis=1)


def find_links(
    read: Callable[[int], LabelImage], frames: int, depths: int, axes: str, rules: Rules, step: float = 1.0
) -> Links:
    """Links the objects of a stack, of which a few planes are in memory at a time.

    Ids are numbered by where objects first appear: frame by frame, plane by plane, row by row.

    Args:
        read: gives the label image (H, W) of a plane; those of a frame follow each other.
        frames, depths: how many there are.
        axes: along which to link, of ``z`` and ``t``.
        rules: what may be linked.
        step: from plane to plane, in widths of a pixel.
    """
    sections, shared = scan(read, frames, depths, axes, rules.gap)
    owner = np.arange(len(sections.area))
    if "z" in axes:
        owner = link_planes(sections, shared["z"], rules.min_overlap, rules.gap, rules.neck)
        planes = np.bincount(owner)
        kept = planes >= rules.min_planes
        owner = np.where(kept, np.cumsum(kept) - 1, -1)[owner]
    bodies = _bodies(sections, owner, depths, step)
    if "t" not in axes:
        return Links(sections, owner, bodies, np.arange(1, len(bodies.size) + 1))
    a, b, area = shared["t"]
    both = (owner[a] >= 0) & (owner[b] >= 0)
    count = max(len(bodies.size), 1)
    pair, inverse = np.unique(owner[a[both]] * count + owner[b[both]], return_inverse=True)
    together = Shared(*np.divmod(pair, count), np.bincount(inverse, area[both], len(pair)))
    distance = rules.distance or 2 * float(np.median(bodies.radius)) if len(bodies.size) else 0.0
    track, parents = link_frames(bodies, together, distance, rules.min_overlap, rules.gap)
    return Links(sections, owner, bodies, track + 1, parents + 1, distance)


def _bodies(sections: Sections, owner: NDArray[np.int64], depths: int, step: float) -> Bodies:
    """Puts the sections of each object, from 0, together; those of -1 are left out."""
    seen = owner >= 0
    count, of = int(owner.max(initial=-1)) + 1, owner[seen]
    plane, area = sections.plane[seen], sections.area[seen]
    size = np.bincount(of, area, count)
    places = np.column_stack([plane % depths * step, sections.centre[seen]])
    centre = np.stack([np.bincount(of, area * place, count) for place in places.T], axis=1) / size[:, None]
    frame = np.zeros(count, np.int64)
    frame[of] = plane // depths
    radius = np.sqrt(size / np.pi) if depths == 1 else np.cbrt(size * step * 3 / (4 * np.pi))
    return Bodies(frame, size.astype(np.int64), centre, radius)


@dataclass(frozen=True)
class Linked:
    """A linked stack.

    Attributes:
        labels: int32, of the stack's shape: 0 background, an id for each 3-D object or track.
        tracks: int64 (N, 4), id, first frame, last frame, parent (0: none), as in the Cell Tracking Challenge's
            ``res_track.txt``; None where frames are not linked.
    """

    labels: NDArray[np.int32]
    tracks: NDArray[np.int64] | None


def link(labels: Any, axes: str, step: float = 1.0, **rules: Any) -> Linked:
    """Links the objects of a stack of label images, each plane of which was segmented on its own.

    Args:
        labels: integers, 0 is background; an array of any kind, read plane by plane.
        axes: of the array: ``"ZYX"`` gives 3-D objects, ``"TYX"`` tracks, ``"TZYX"`` tracks of 3-D objects.
        step: from plane to plane, in widths of a pixel.
        rules: what may be linked, such as ``distance=30``; see `Rules`.

    Returns:
        The linked stack. Its ids do not depend on those of the planes.

    Raises:
        DataError: the array has other axes.

    >>> link(np.array([[[4, 4, 0]], [[0, 9, 9]]]), "TYX").labels.tolist()
    [[[1, 1, 0]], [[0, 1, 1]]]
    """
    if axes not in KNOWN or len(axes) != len(labels.shape):
        raise DataError(
            f"The label images have the shape {tuple(labels.shape)}, and the axes are to be {axes}: expected one of "
            f"{', '.join(KNOWN)}."
        )
    frames, depths = (*labels.shape[:-2], 1)[:2] if "T" in axes else (1, len(labels))

    def read(plane: int) -> LabelImage:
        return np.asarray(labels[np.unravel_index(plane, labels.shape[:-2])])

    names = axes[:-2].lower()
    found = find_links(read, frames, depths, names, Rules(**rules), step)
    stack = np.zeros(labels.shape, np.int32)
    for plane, out in enumerate(stack.reshape(-1, *labels.shape[-2:])):
        out[:] = found.plane(plane, read(plane))
    return Linked(stack, found.tracks if "t" in names else None)
