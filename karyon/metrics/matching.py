"""Matching the objects of two label images by intersection over union (IoU).

Every instance metric is computed from the few integers that `match_instances` returns for an image. Objects that share
no pixel have an IoU of 0, so only the pairs that do share pixels are ever listed: some tens of thousands where a dense
table of 21,000 true against 21,000 predicted objects would have 441 million entries.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from karyon.labels import LabelImage

THRESHOLDS = np.arange(10, 20) / 20
"""The ten IoU thresholds .50, .55 ... .95; entry k of every count per threshold belongs to entry k."""


class Matching(NamedTuple):
    """How the predicted objects of one image match the true ones.

    Attributes:
        tp: int64 (10,), true positives at `THRESHOLDS`: pairs whose IoU is greater than the threshold.
        fp: int64 (10,), predictions without a match.
        fn: int64 (10,), true objects without a match.
        tp_inclusive: int64 (10,), true positives where an IoU equal to the threshold is a match too.
        ious: float64 (tp[0],), the IoUs above 0.5, ascending; each belongs to a matched pair, in (0.5, 1].
        best_ious: float64 (n_pred,), the greatest IoU of each prediction, by ascending id, with any true object; 0
            where it touches none.
        n_true: number of true objects.
        n_pred: number of predicted objects.
        aji_intersection: numerator of the aggregated Jaccard index, px.
        aji_union: its denominator, px; 0 where there is no object at all.
    """

    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]
    tp_inclusive: NDArray[np.int64]
    ious: NDArray[np.float64]
    best_ious: NDArray[np.float64]
    n_true: int
    n_pred: int
    aji_intersection: int
    aji_union: int


class Overlaps(NamedTuple):
    """The pairs of objects that share pixels; objects are numbered from 0 as they appear in the image, row by row."""

    true: NDArray[np.int64]  # (n,) number of the pair's true object
    pred: NDArray[np.int64]  # (n,)
    intersection: NDArray[np.int64]  # (n,) px
    union: NDArray[np.int64]  # (n,) px
    true_area: NDArray[np.int64]  # (n_true,) px
    pred_area: NDArray[np.int64]  # (n_pred,) px
    pred_id: NDArray[Any]  # (n_pred,) ids in the image


def match_instances(true: Any, pred: Any) -> Matching:
    """Matches predicted to true objects at the thresholds .50, .55 ... .95.

    A pair matches at t = k/20 when ``20 * intersection > k * union``, in integers, so that no rounding decides. Above
    an IoU of 0.5 an object has one partner at most, and counting the pairs is the assignment.

    Args:
        true: integers (H, W), 0 is background; the objects' ids are any positive numbers, gaps allowed. Where it is
            negative nothing is annotated, and nothing is counted; predictions that lie mostly there are left out.
        pred: integers (H, W), the prediction.

    Returns:
        The counts, the matched IoUs, and the sums of the aggregated Jaccard index.

    Raises:
        ValueError: the images differ in size, or one of them is not a label image.

    Source: https://www.kaggle.com/c/data-science-bowl-2018/overview/evaluation

    >>> matching = match_instances(np.array([[7, 7, 7, 0, 2]]), np.array([[1, 1, 0, 0, 0]]))
    >>> matching.tp  # intersection 2 px, union 3 px: an IoU of 0.67
    array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    >>> matching.fn
    array([1, 1, 1, 1, 2, 2, 2, 2, 2, 2])
    """
    overlaps = find_overlaps(*label_images(true, pred))
    n_true, n_pred = len(overlaps.true_area), len(overlaps.pred_area)
    half = 2 * overlaps.intersection >= overlaps.union
    intersection, union = overlaps.intersection[half, None], overlaps.union[half, None]
    k = np.arange(10, 20)
    tp = np.sum(20 * intersection > k * union, axis=0)
    tp_inclusive = np.sum(20 * intersection >= k * union, axis=0)
    # At exactly 0.5 two predictions can be the two halves of one true object, or the reverse. The halves touch no other
    # object, so the pairs form single edges and forks of two; of each of these trees a maximum matching takes one
    # edge, and a forest has as many trees as it has nodes less edges.
    tp_inclusive[0] = len(np.unique(overlaps.true[half])) + len(np.unique(overlaps.pred[half])) - len(intersection)
    ious = np.sort((intersection / union)[2 * intersection > union])
    counts = tp, n_pred - tp, n_true - tp, tp_inclusive
    return Matching(*counts, ious, _best_ious(overlaps), n_true, n_pred, *_aggregated_jaccard(overlaps))


def label_images(true: Any, pred: Any) -> tuple[LabelImage, LabelImage]:
    """Brings two label images to NumPy and checks that they can be compared.

    Args:
        true: integers or booleans (H, W), negative where nothing is annotated.
        pred: integers or booleans (H, W), the prediction.

    Returns:
        Both images (H, W), their types unchanged; where something is not annotated, only the N other pixels, (1, N),
        without the predicted objects that lie mostly elsewhere.

    Raises:
        ValueError: the images differ in size, or one of them is not two-dimensional or not of an integer type; the
            prediction holds negative numbers, or nothing is annotated.
    """
    images = []
    for role, image in (("true", true), ("predicted", pred)):
        # A tensor, on whatever device it is.
        array: NDArray[Any] = image.numpy(force=True) if hasattr(image, "numpy") else np.asarray(image)
        if array.ndim != 2 or array.size == 0:
            raise ValueError(f"The {role} label image must have the shape (H, W), not {array.shape}.")
        if array.dtype.kind not in "iub":
            raise ValueError(f"The {role} label image must hold integers, not {array.dtype}.")
        images.append(array)
    if images[0].shape != images[1].shape:
        raise ValueError(
            f"The true label image has {images[0].shape} px and the predicted one {images[1].shape}: resize the "
            "prediction to the size of the truth first."
        )
    true, pred = images
    if pred.min() < 0:
        raise ValueError(f"The predicted label image holds the negative number {pred.min()}: background must be 0.")
    if true.max() < 0:
        raise ValueError("The true label image is negative throughout: nothing is annotated.")
    if true.min() >= 0:
        return true, pred
    known = true >= 0
    pred = np.where(mostly_unknown(true, pred)[pred], 0, pred)
    return true[known][None], pred[known][None]


def mostly_unknown(true: LabelImage, pred: LabelImage) -> NDArray[np.bool_]:
    """Whether most of an object's pixels lie where nothing is annotated, of each id from 0 to the highest.

    >>> mostly_unknown(np.array([[0, -1, -1, 0]]), np.array([[1, 1, 2, 0]]))
    array([False, False,  True])
    """
    return 2 * np.bincount(pred[true < 0], minlength=int(pred.max()) + 1) > np.bincount(pred.ravel())


def find_overlaps(true: LabelImage, pred: LabelImage) -> Overlaps:
    """Lists the pairs of objects that share pixels, and the area of every object.

    Args:
        true: integers (H, W), 0 is background.
        pred: the same for the prediction.

    Returns:
        The overlaps, px.

    >>> find_overlaps(np.array([[7, 7, 0, 2]]), np.array([[5, 0, 3, 3]])).intersection
    array([1, 1])
    """
    flat_true, flat_pred = true.ravel(), pred.ravel()
    # Only runs of pixels on which neither image changes have to be sorted: with nuclei, a tenth of the pixels or less.
    changes = (flat_true[1:] != flat_true[:-1]) | (flat_pred[1:] != flat_pred[:-1])
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    lengths = np.diff(starts, append=flat_true.size)
    true_id, rows = _number(flat_true[starts])
    pred_id, columns = _number(flat_pred[starts])
    table = coo_array((lengths, (rows, columns)), shape=(len(true_id) + 1, len(pred_id) + 1)).tocsr()
    true_area, pred_area = table.sum(axis=1), table.sum(axis=0)
    pairs = table[1:, 1:].tocoo()
    rows, columns = pairs.row.astype(np.int64), pairs.col.astype(np.int64)
    union = true_area[rows + 1] + pred_area[columns + 1] - pairs.data
    return Overlaps(rows, columns, pairs.data, union, true_area[1:], pred_area[1:], pred_id)


def _number(ids: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Numbers ids 1..N as they first appear, 0 stays 0; returns the ids in that order, and the number of each entry."""
    unique, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    first[unique == 0] = -1
    order = np.argsort(first)
    number = np.empty(len(unique), dtype=np.int64)
    number[order] = np.arange(len(unique)) + (unique[0] != 0)
    return unique[order][unique[order] != 0], number[inverse]


def _best_ious(overlaps: Overlaps) -> NDArray[np.float64]:
    """The greatest IoU of each prediction, by ascending id."""
    best = np.zeros(len(overlaps.pred_id))
    np.maximum.at(best, overlaps.pred, overlaps.intersection / overlaps.union)
    return best[np.argsort(overlaps.pred_id)]


def _aggregated_jaccard(overlaps: Overlaps) -> tuple[int, int]:
    """Numerator and denominator, in px, of the index that `AggregatedJaccard` describes."""
    iou = overlaps.intersection / overlaps.union
    # Each true object's pairs together, the greatest IoU first, equal ones in the order they appear in the image.
    order = np.lexsort((overlaps.pred, -iou, overlaps.true))
    matched, first = np.unique(overlaps.true[order], return_index=True)
    best = order[first]
    unused = np.delete(overlaps.pred_area, np.unique(overlaps.pred[best]))
    missed = np.delete(overlaps.true_area, matched)
    union = overlaps.union[best].sum() + missed.sum() + unused.sum()
    return int(overlaps.intersection[best].sum()), int(union)


def image_score(matching: Matching) -> float:
    """The `DSBScore` of one image, in [0, 1].

    >>> image_score(match_instances(np.array([[3, 3, 3]]), np.array([[1, 1, 0]])))
    0.4
    """
    return float(ratio(matching.tp, matching.tp + matching.fp + matching.fn).mean())


def ratio(part: Any, whole: Any) -> Any:
    """Divides counts, numbers or arrays of them; 0 of 0 is 1, for nothing was there and nothing was claimed.

    >>> ratio(np.array([1, 0, 0]), np.array([2, 2, 0]))
    array([0.5, 0. , 1. ])
    """
    return np.where(whole == 0, 1.0, part / np.maximum(whole, 1))
