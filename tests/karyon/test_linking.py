"""Planes and frames are linked as they were drawn: balls, and discs that move, vanish, divide, come and go."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from karyon import link
from karyon.errors import DataError

BALLS = {
    "apart": [((8, 15, 15), 6), ((9, 40, 40), 7), ((20, 44, 20), 5)],
    "on each other": [((7, 20, 20), 6), ((20, 21, 20), 6.5), ((7, 44, 40), 5), ((19, 41, 38), 7)],
    "pressed into each other": [((8, 20, 20), 6), ((18, 20, 20), 6), ((9, 45, 45), 7), ((20, 48, 42), 6)],
    "side by side": [((10, 20, 20), 8), ((10, 20, 37), 8), ((18, 35, 28), 8), ((10, 50, 50), 3)],
    "leaving the stack": [((-2, 20, 20), 7), ((29, 20, 40), 8), ((14, 0, 50), 7)],
}


def balls(placed, shape=(28, 60, 60)):
    """Balls of centres and radii, px; where two lie in each other, the nearer centre owns the pixel."""
    away = [
        np.sqrt(sum((axis - c) ** 2 for axis, c in zip(np.indices(shape), at, strict=True))) / r for at, r in placed
    ]
    return np.where(np.min(away, 0) <= 1, np.argmin(away, 0) + 1, 0)


def discs(frames, shape=(64, 64)):
    """Frames of discs: of each its id, centre and radius, px."""
    rows, columns = np.indices(shape)
    stack = np.zeros((len(frames), *shape), int)
    for frame, drawn in zip(stack, frames, strict=True):
        for number, y, x, r in drawn:
            frame[(rows - y) ** 2 + (columns - x) ** 2 <= r * r] = number
    return stack


def shuffled(stack, seed=0):
    """Each plane with ids of its own, as a model gives them."""
    rng = np.random.default_rng(seed)
    return np.stack([np.append(0, rng.choice(999, plane.max() + 1, False) + 1)[plane] for plane in stack])


def same_objects(found, true):
    """Whether two label images differ in their ids alone: each object has an IoU of 1 with one of the other."""
    sizes = np.bincount(found.ravel() * 1000 + true.ravel()) > 0
    return sizes[0] and sizes.sum() == np.sum(np.bincount(found.ravel()) > 0) == np.sum(np.bincount(true.ravel()) > 0)


def seg(found, true):
    """CTC's SEG: the mean IoU of true objects with what covers more than half of each."""
    ious = []
    for number in np.unique(true)[1:]:
        of = true == number
        best = np.argmax(np.append(0, np.bincount(found[of])[1:]))
        common = (of & (found == best)).sum()
        ious.append(common / (of | (found == best)).sum() if 2 * common > of.sum() else 0)
    return np.mean(ious)


def edges(labels, tracks):
    """What CTC's TRA counts: from centre to centre of an object's appearances, and from a parent's last to a first."""
    seen = {
        (t, k): tuple(np.mean(np.nonzero(frame == k), 1)) for t, frame in enumerate(labels) for k in np.unique(frame)
    }
    within = {(t, seen[t, k], seen[t + 1, k]) for t, k in seen if k and (t + 1, k) in seen}
    ends = {track[0]: track[2] for track in tracks}
    return within | {(ends[p], seen[ends[p], p], seen[begin, k]) for k, begin, _, p in tracks if p}


@pytest.mark.parametrize("name", BALLS)
def test_balls_come_out_of_their_planes(name):
    true = balls(BALLS[name])
    found = link(shuffled(true), "ZYX")
    # The plane in the middle of two that are pressed into each other may go to either.
    assert seg(found.labels, true) > 0.97 and found.labels.max() == true.max() and found.tracks is None


def test_an_object_missing_in_a_plane_is_one_and_ends_there_without_a_gap():
    true = balls([((10, 20, 20), 8), ((10, 40, 42), 8)])
    true[9][true[9] == 1] = 0
    assert same_objects(link(shuffled(true), "ZYX").labels, true)
    assert link(true, "ZYX", gap=0).labels.max() == 3


def test_necks_and_overlaps_and_lengths_can_be_chosen():
    true = balls([((8, 20, 20), 6), ((18, 20, 20), 6), ((10, 44, 44), 3)])
    assert [link(true, "ZYX", neck=neck).labels.max() for neck in (0, 0.2, 0.5)] == [2, 2, 3]
    assert [link(true, "ZYX", min_planes=planes).labels.max() for planes in (7, 8, 20)] == [3, 2, 0]
    stairs = discs([[(1, 20, 20 + 8 * k, 8)] for k in range(4)])
    assert [link(stairs, "ZYX", min_overlap=least).labels.max() for least in (0.2, 0.5)] == [1, 4]


def moving(number, y, x, dy, dx, frames, r=6.0):
    return {t: (number, y + dy * t, x + dx * t, r) for t in frames}


def film(*discs_of_frames, length=8):
    return [[disc[t] for disc in discs_of_frames if t in disc] for t in range(length)]


TRACKS = {
    "moving": (film(moving(1, 10, 8, 4, 5, range(8)), moving(2, 50, 8, -3, 6, range(8))), {}, [0, 0]),
    "faster than they are wide": (
        film(*[moving(k, 14 * k, 10, 0, 7, range(8), 3) for k in (1, 2, 3)]),
        {"distance": 8},
        [0] * 3,
    ),
    "passing each other": (
        film(moving(1, 20, 5, 0, 7, range(8), 5), moving(2, 34, 55, 0, -7, range(8), 5)),
        {},
        [0, 0],
    ),
    "gone for a frame": (
        film(
            moving(1, 12, 10, 0, 5, range(3)), moving(2, 12, 10, 0, 5, range(4, 8)), moving(3, 44, 44, 0, 0, range(8))
        ),
        {},
        [0, 0, 1],
    ),
    "dividing": (
        film(
            moving(1, 30, 30, 0.5, 0, range(4), 9),
            moving(2, 32, 26, 0, -1, range(4, 8), 6.5),
            moving(3, 32, 34, 0, 1, range(4, 8), 6.5),
            moving(4, 55, 10, 0, 4, range(8), 7),
        ),
        {},
        [0, 0, 1, 1],
    ),
    "coming and leaving": (
        film(
            moving(1, 30, -14, 0, 5, range(2, 8)), moving(2, 12, 40, 0, 6, range(5)), moving(3, 46, 20, 0, 2, range(8))
        ),
        {},
        [0, 0, 0],
    ),
    "coming in beside one that goes on": (
        film(moving(1, 30, 12, 0, 0, range(8), 7), moving(2, 30, 27, 0, 0, range(4, 8), 7)),
        {},
        [0, 0],
    ),
    "nothing": (film(), {}, []),
}


@pytest.mark.parametrize("name", TRACKS)
def test_discs_are_followed(name):
    frames, rules, parents = TRACKS[name]
    true = discs(frames)
    found = link(shuffled(true), "TYX", **rules)
    assert same_objects(found.labels, true)
    assert found.tracks[:, 3].tolist() == parents
    order = [true[found.labels == k][0] for k in found.tracks[:, 0]]
    ids = dict(zip([0, *found.tracks[:, 0]], [0, *order], strict=True))
    named = [(ids[k], begin, end, ids[parent]) for k, begin, end, parent in found.tracks.tolist()]
    assert edges(found.labels, found.tracks) == edges(true, named)
    # As CTC wants it: each track is in each of its frames, and in no other.
    for k, begin, end, _ in found.tracks:
        assert [t for t, frame in enumerate(found.labels) if (frame == k).any()] == [*range(begin, end + 1)]


def test_without_a_gap_or_far_away_another_track_begins():
    frames, *_ = TRACKS["gone for a frame"]
    assert link(discs(frames), "TYX", gap=0).tracks[:, 3].tolist() == [0, 0, 0]
    fast = discs(film(moving(1, 10, 8, 4, 5, range(8))))
    assert [len(link(fast, "TYX", distance=far, min_overlap=1).tracks) for far in (6, 7)] == [8, 1]


def test_balls_are_followed_in_depth_and_time():
    """Two lie on each other all the time, so that only depth tells them apart; another divides in depth."""
    films = [
        [((4, 8, 8 + 3 * t), 3), ((11, 8, 8 + 3 * t), 3)]
        + ([((7, 24, 20), 5)] if t < 2 else [((4, 24, 20), 3.5), ((12, 24, 20), 3.5)])
        for t in range(4)
    ]
    true = np.stack([balls(placed, (16, 32, 32)) for placed in films])
    true[2:][true[2:] > 2] += 1
    found = link(shuffled(true.reshape(-1, 32, 32)).reshape(true.shape), "TZYX")
    assert same_objects(found.labels, true)
    assert found.tracks.tolist() == [[1, 0, 3, 0], [2, 0, 1, 0], [3, 0, 3, 0], [4, 2, 3, 2], [5, 2, 3, 2]]


SOME_BALLS = st.lists(
    st.tuples(st.tuples(st.floats(0, 9), st.floats(0, 24), st.floats(0, 24)), st.floats(2, 6)), min_size=1, max_size=8
)


@settings(max_examples=10, deadline=None)
@given(SOME_BALLS, st.integers(0, 9))
def test_ids_of_planes_and_the_direction_of_depth_do_not_matter(placed, seed):
    true = balls(placed, (10, 24, 24))
    found = link(true, "ZYX").labels
    assert (link(shuffled(true, seed), "ZYX").labels == found).all()
    assert same_objects(link(shuffled(true[::-1], seed), "ZYX").labels[::-1], found)
    one, other = link(true, "TYX"), link(shuffled(true, seed), "TYX")
    assert (one.labels == other.labels).all() and (one.tracks == other.tracks).all()
    # Nothing is lost, and objects of a plane stay apart.
    for plane, linked in zip(true, found, strict=True):
        assert same_objects(linked, plane)


@pytest.mark.parametrize("axes", ["YX", "ZTYX", "CYX", "TYX"])
def test_other_axes_are_refused(axes):
    with pytest.raises(DataError, match="expected one of ZYX, TYX, TZYX"):
        link(np.zeros((2, 2, 4, 4), int), axes)
