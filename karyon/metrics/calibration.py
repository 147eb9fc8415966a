"""Calibration: whether the scores that a model gives its objects are the probabilities that they are right."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Reliability(NamedTuple):
    """Objects in groups of about equal size, the least sure first.

    Attributes:
        score: float64 (n,), mean score of each group.
        right: int64 (n,), how many of a group are right.
        total: int64 (n,), how many it holds.
    """

    score: NDArray[np.float64]
    right: NDArray[np.int64]
    total: NDArray[np.int64]


def reliability(scores: NDArray[np.float64], right: NDArray[np.bool_], groups: int = 10) -> Reliability:
    """Compares scores with how often they are right, group by group.

    Groups of equal size rather than of equal width, since scores crowd near 1; equal scores share a group.

    Args:
        scores: (N,) in [0, 1].
        right: (N,), whether each object is one.
        groups: at most so many.

    Source: Nixon et al. 2019, "Measuring calibration in deep learning", https://arxiv.org/abs/1904.01685

    >>> reliability(np.array([0.9, 0.2, 0.9, 0.4]), np.array([True, False, False, False]), groups=2)
    Reliability(score=array([0.3, 0.9]), right=array([0, 1]), total=array([2, 2]))
    """
    # The lowest score of each group; with many equal scores there are fewer.
    starts = np.unique(np.sort(scores)[np.arange(groups) * len(scores) // groups]) if len(scores) else scores
    group = np.searchsorted(starts, scores, side="right") - 1
    total, right_ones = np.bincount(group), np.bincount(group[right], minlength=len(starts))
    return Reliability(np.bincount(group, weights=scores) / total, right_ones, total)


def calibration_error(curve: Reliability) -> float:
    """Expected calibration error: the mean over objects of how far their group's score is from its share of right ones.

    >>> calibration_error(Reliability(np.array([0.3, 0.9]), np.array([0, 1]), np.array([2, 2])))
    0.35
    """
    gap = np.abs(curve.score - curve.right / curve.total)
    return float((gap * curve.total).sum() / curve.total.sum())
