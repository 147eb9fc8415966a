"""Tracks out of the objects of frames."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from karyon.linking.assignment import Indices, best_pairs, chains, linked
from karyon.linking.sections import Shared

SIMILAR = 0.5  # the smaller of two daughters, and of an object before and after a gap, as a share of the larger
DAUGHTER = 0.8  # the larger daughter as a share of its mother, at most: else the mother goes on and another comes in


class Bodies(NamedTuple):
    """The objects of all frames, frame by frame; 2-D objects lie at depth 0."""

    frame: NDArray[np.int64]  # (n,) from 0
    size: NDArray[np.int64]  # (n,) area or volume, px
    centre: NDArray[np.float64]  # (n, 3) depth, row and column, in widths of a pixel
    radius: NDArray[np.float64]  # (n,) of a disc or ball of that size, in widths of a pixel


def link_frames(
    bodies: Bodies, shared: Shared, distance: float, min_overlap: float = 0.5, gap: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Follows objects through frames by overlap and distance.

    First objects of frames next to each other are linked one to one; then objects that begin are taken for the
    second daughters of those that have become much smaller; then tracks that end are linked to those that begin after
    a gap. As in the Cell Tracking Challenge, whatever comes after a division or a gap is a track of its own, with a
    parent. Source: Jaqaman et al. 2008, https://doi.org/10.1038/nmeth.1237

    Args:
        bodies: the objects.
        shared: what those of frames up to ``gap`` + 1 apart share.
        distance: that a centre moves from frame to frame at most, in widths of a pixel. Farther objects are linked
            only where they overlap.
        min_overlap: share of the smaller object that lies in the other then, at least.
        gap: frames in which an object may be missing.

    Returns:
        int64 (n,), the track of each object, numbered from 0 in the order of their first objects; and int64 (m,), the
        parent of each track, -1 where there is none.
    """
    after, before = np.full((2, len(bodies.frame)), -1)
    divided = np.zeros(len(bodies.frame), bool)
    for step in range(1, gap + 2):
        a, b, score = _candidates(bodies, shared, distance * step, min_overlap, step)
        linked(bodies.frame, a, b, score, after, before, step)
        if step == 1:
            _divide(bodies, a, b, after, before, divided)
    goes_on = (before >= 0) & (bodies.frame - bodies.frame[before] == 1) & ~divided[before]
    track = chains(np.where(goes_on, before, -1))
    parents = np.full(track.max(initial=-1) + 1, -1)
    born = (before >= 0) & ~goes_on
    parents[track[born]] = track[before[born]]
    return track, parents


def _candidates(
    bodies: Bodies, shared: Shared, reach: float, min_overlap: float, step: int
) -> tuple[Indices, Indices, NDArray[np.float64]]:
    """Pairs of objects so many frames apart that are near each other or overlap, and how well they go together."""
    from scipy.spatial import KDTree

    count = len(bodies.frame)
    starts = np.searchsorted(bodies.frame, np.arange(bodies.frame.max(initial=-1) + 2))
    apart = bodies.frame[shared.b] - bodies.frame[shared.a] == step
    keys, common = [shared.a[apart] * count + shared.b[apart]], [shared.area[apart]]
    for t in range(len(starts) - 1 - step):
        here, there = (KDTree(bodies.centre[starts[k] : starts[k + 1]]) for k in (t, t + step))
        near = here.sparse_distance_matrix(there, reach, output_type="ndarray")
        keys.append((near["i"] + starts[t]) * count + near["j"] + starts[t + step])
        common.append(np.zeros(len(near), np.int64))
    pair, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    overlap = np.bincount(inverse, np.concatenate(common), len(pair))
    a, b = np.divmod(pair, max(count, 1))
    away = np.linalg.norm(bodies.centre[a] - bodies.centre[b], axis=1)
    sizes = bodies.size[a], bodies.size[b]
    score = (overlap / (sizes[0] + sizes[1] - overlap) + np.maximum(1 - (away / reach) ** 2, 0)) / 2
    keep = (score > 0) & ((away <= reach) | (overlap >= min_overlap * np.minimum(*sizes)))
    if step > 1:
        keep &= _ratio(*sizes) >= SIMILAR
    return a[keep], b[keep], score[keep]


def _divide(
    bodies: Bodies, a: Indices, b: Indices, after: Indices, before: Indices, divided: NDArray[np.bool_]
) -> None:
    """Gives objects that begin a mother: one beside whose middle lie both they and what it was linked to.

    Args:
        bodies: the objects.
        a, b: candidates from frame to frame.
        after, before: see `karyon.linking.assignment.linked`.
        divided: which objects are mothers; it is changed as ``before`` is.
    """
    free = (before[b] < 0) & (after[a] >= 0)
    mother, second = a[free], b[free]
    first = after[mother]
    middle = (bodies.centre[first] + bodies.centre[second]) / 2
    off = np.linalg.norm(middle - bodies.centre[mother], axis=1) / bodies.radius[mother]
    sizes = bodies.size[first], bodies.size[second]
    likely = (off < 1) & (_ratio(*sizes) >= SIMILAR) & (np.maximum(*sizes) <= DAUGHTER * bodies.size[mother])
    mother, second, off = mother[likely], second[likely], off[likely]
    chosen = best_pairs(mother, second, 1 - off)
    before[second[chosen]] = mother[chosen]
    divided[mother[chosen]] = True


def _ratio(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float64]:
    """The smaller of two sizes as a share of the larger."""
    return np.minimum(one, other) / np.maximum(one, other)
