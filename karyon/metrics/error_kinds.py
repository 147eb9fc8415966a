"""What is wrong with objects that were not found as they should be."""

from typing import Any, NamedTuple

import numpy as np

from karyon.metrics.matching import find_overlaps, label_images

TIGHT, LOOSE = 0.7, 0.2  # IoU


class ErrorKinds(NamedTuple):
    """How many objects of an image were found, and what became of the others.

    The first five count true objects, each once, and add up to their number.

    Attributes:
        tight: IoU above .7 with a prediction.
        merged: a prediction covers more than half of this true object and of another one.
        split: more than half of each of several predictions lies in it.
        loose: found, but the outline is off: IoU above .2.
        missed: everything else.
        false: predictions of which at least half lies on background, and that are not found or loose objects.
    """

    tight: int
    merged: int
    split: int
    loose: int
    missed: int
    false: int


def error_kinds(true: Any, pred: Any) -> ErrorKinds:
    """Sorts the objects of an image by what became of them.

    Args:
        true: label image, integers (H, W), 0 is background.
        pred: the same for the prediction.

    Raises:
        ValueError: the images differ in size, or one of them is not a label image.

    >>> error_kinds(np.array([[1, 1, 2, 2, 0, 3, 3, 3, 3]]), np.array([[1, 1, 1, 1, 0, 2, 2, 3, 3]]))
    ErrorKinds(tight=0, merged=2, split=1, loose=0, missed=0, false=0)
    """
    pairs = find_overlaps(*label_images(true, pred))
    n_true, n_pred = len(pairs.true_area), len(pairs.pred_area)
    iou = pairs.intersection / pairs.union
    best_true, best_pred = np.zeros(n_true), np.zeros(n_pred)
    np.maximum.at(best_true, pairs.true, iou)
    np.maximum.at(best_pred, pairs.pred, iou)
    covers = 2 * pairs.intersection > pairs.true_area[pairs.true]
    merging = np.bincount(pairs.pred[covers], minlength=n_pred) > 1
    merged, split = np.zeros(n_true, bool), np.zeros(n_true, bool)
    merged[pairs.true[covers & merging[pairs.pred]]] = True
    inside = 2 * pairs.intersection > pairs.pred_area[pairs.pred]
    split[np.bincount(pairs.true[inside], minlength=n_true) > 1] = True
    # The first that is true of an object is what it is.
    states = np.select([best_true > TIGHT, merged, split, best_true > LOOSE], [0, 1, 2, 3], 4)
    on_objects = np.bincount(pairs.pred, pairs.intersection, minlength=n_pred)
    false = (2 * on_objects <= pairs.pred_area) & (best_pred <= LOOSE)
    tight, merge, halved, loose, missed = np.bincount(states, minlength=5).tolist()
    return ErrorKinds(tight, merge, halved, loose, missed, int(false.sum()))
