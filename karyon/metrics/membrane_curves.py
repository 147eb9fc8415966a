"""The scores of one slice of membrane-stained tissue at each threshold of the cell probability, in NumPy alone."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.special import xlogy
from skimage.measure import label

from karyon.labels import LabelImage
from karyon.metrics.warping import pick, warp

CELL_THRESHOLDS = tuple(k / 10 for k in range(11))
"""The eleven thresholds 0, .1 ... 1 of the cell probability; a pixel above one is in a cell."""


class MembraneCurves(NamedTuple):
    """The scores of a slice, or of its proposal at one threshold; `MembraneScores` defines them."""

    v_rand: Any  # float
    v_info: Any  # float
    pairs_both: Any  # integer: ordered pairs of pixels that are in one true cell and in one predicted segment
    pairs_either: Any  # integer: those in one cell, and those in one segment
    pixel_error: Any  # float
    warping_error: Any  # float


def membrane_curves(true: LabelImage, probability: NDArray[Any], warp_all: bool = True) -> MembraneCurves:
    """Scores a slice at each threshold.

    Args:
        true: label image (H, W), 0 is membrane.
        probability: that a pixel is inside a cell, (H, W), in [0, 1].
        warp_all: whether to warp at threshold 1 too, towards no cell at all, which takes as long as all others.

    Returns:
        Arrays (11,), at `CELL_THRESHOLDS`; without ``warp_all`` the last warping error is NaN.

    >>> curves = membrane_curves(np.array([[1, 1, 0, 2, 2]]), np.array([[0.9, 0.9, 0.2, 0.9, 0.9]]))
    >>> curves.v_rand[:3].round(2)  # below .2 the cells are merged
    array([0.67, 0.67, 1.  ])
    """
    cells = label(true, background=0, connectivity=1)
    scores = [_scores_at(cells, probability > t, warp_all or t < 1) for t in CELL_THRESHOLDS]
    return MembraneCurves(*map(np.array, zip(*scores, strict=True)))


def thin_borders(segments: LabelImage) -> NDArray[np.int32]:
    """Grows segments until only dams part them, one pixel wide but for ties of the flooding.

    That is the watershed of a constant image, with 4-connectivity: what is flooded is the binary proposal, not the
    probability, and all segments grow at the same pace. A pixel that floods of two segments reach is a dam and stays
    background. Pixels at one distance from their segments are flooded in two turns, by the colours of a chessboard: no
    two pixels of a turn touch, so flooding them at once is flooding them one after another.

    Args:
        segments: label image (H, W), 0 is the background to flood.

    Returns:
        Int32 (H, W), the grown segments with their ids and 0 on the dams; 0 everywhere if there is no segment.

    Source: Arganda-Carreras et al. 2015, https://doi.org/10.3389/fnana.2015.00142

    >>> thin_borders(np.array([[1, 0, 0, 0, 2, 2, 0]])).tolist()
    [[1, 1, 0, 2, 2, 2, 2]]
    """
    # In rows of odd length, indices of neighbours are never both even.
    border = (1, 1), (1, 2 - segments.shape[1] % 2)
    grown = np.pad(segments.astype(np.uint32), border)
    flooded, dry = grown.ravel(), np.pad(segments == 0, border).ravel()
    steps = np.array([-grown.shape[1], -1, 1, grown.shape[1]])
    ring = np.flatnonzero(dry)
    ring = ring[flooded.take(ring + steps[:, None]).any(axis=0)]
    dry[ring] = False
    while len(ring):
        reached = []
        for turn in (ring[ring % 2 == 0], ring[ring % 2 == 1]):
            around = flooded.take(turn + steps[:, None])
            # 0 - 1 is the greatest number: the least id is that of a segment.
            greatest, least = around.max(axis=0), (around - 1).min(axis=0) + 1
            of_one = greatest == least
            flooded[turn[of_one]] = greatest[of_one]
            reached.append(turn[of_one])
        ring = pick(dry, np.concatenate(reached), steps)
    height, width = segments.shape
    return grown[1 : height + 1, 1 : width + 1].astype(np.int32)


def v_rand_and_v_info(cells: LabelImage, segments: LabelImage) -> tuple[float, float]:
    """The Rand score and the information score of one slice, restricted to the true cells.

    Args:
        cells: true label image (H, W), 0 is membrane.
        segments: predicted label image (H, W), each pixel with 0 is a segment by itself.

    Returns:
        V_rand and V_info as `MembraneScores` describes them, each in [0, 1].

    Source: Arganda-Carreras et al. 2015, https://doi.org/10.3389/fnana.2015.00142

    >>> v_rand_and_v_info(np.array([[1, 1, 0, 2, 2]]), np.array([[1, 1, 1, 1, 1]]))  # Rand: 2 * 8 / (8 + 16)
    (0.6666666666666666, 0.0)
    """
    areas = _areas(cells, segments)
    n = areas[0].sum()
    # Each is a segment of area 1 that has 1 px in common with one cell.
    singletons = n - areas[1].sum()
    squares_true, squares_pred, squares_both = (np.sum(area**2) for area in areas)
    v_rand = 2 * (squares_both + singletons) / (squares_true + squares_pred + singletons) if n else 1.0
    if len(areas[0]) <= 1 and len(areas[1]) + singletons <= 1:
        return float(v_rand), 1.0  # one segment at most in either: they agree, and have no entropy
    # n H = n log n - sum(a log a) over the areas a, of which an area of 1 adds nothing to the sum.
    h_true, h_pred, h_both = (xlogy(n, n) - xlogy(area, area).sum() for area in areas)
    v_info = 2 * (h_true + h_pred - h_both) / (h_true + h_pred)
    return float(v_rand), float(max(0.0, v_info))


def _scores_at(cells: LabelImage, proposal: NDArray[np.bool_], warped: bool) -> MembraneCurves:
    segments = label(proposal, connectivity=1)
    pairs_true, pairs_pred, pairs_both = (int(np.sum(area * (area - 1))) for area in _areas(cells, segments))
    v_rand, v_info = v_rand_and_v_info(cells, thin_borders(segments))
    pixel_error = np.mean((cells > 0) != proposal)
    warping_error = np.mean(warp(cells > 0, proposal) != proposal) if warped else np.nan
    return MembraneCurves(v_rand, v_info, pairs_both, pairs_true + pairs_pred, pixel_error, warping_error)


def _areas(cells: LabelImage, segments: LabelImage) -> tuple[NDArray[np.int64], ...]:
    """The areas of the cells, of the segments inside cells, and of each cell's overlap with each segment, px."""
    true, pred = cells.ravel(), segments.ravel()
    # Only runs of pixels on which neither image changes have to be counted: a tenth of the pixels or less.
    starts = np.flatnonzero((true[1:] != true[:-1]) | (pred[1:] != pred[:-1])) + 1
    starts = np.concatenate([[0], starts])
    lengths = np.diff(starts, append=true.size)
    true, pred = true[starts], pred[starts]
    inside = true > 0
    table = coo_array((lengths[inside], (true[inside] - 1, pred[inside])), shape=(true.max(), pred.max() + 1)).tocsr()
    overlaps = table[:, 1:]
    areas = table.sum(axis=1), overlaps.sum(axis=0), overlaps.data
    return tuple(area[area > 0] for area in areas)
