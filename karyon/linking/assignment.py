"""Which of many candidates belong to each other: linear assignment, as in Jaqaman et al. 2008."""

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def best_pairs(a: Indices, b: Indices, score: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Chooses pairs of the greatest total score, of which each object is in one at most.

    Args:
        a, b: (m,) the candidates, each pair once.
        score: (m,) in (0, 1).

    Returns:
        bool (m,), which are chosen.

    >>> best_pairs(np.array([0, 0, 1]), np.array([5, 6, 5]), np.array([0.9, 0.8, 0.7]))
    array([False,  True,  True])
    """
    if not len(a):
        return np.zeros(0, bool)
    # Its import takes longer than that of all else here.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    (rows, row), (columns, column) = (np.unique(side, return_inverse=True) for side in (a, b))
    alone = np.arange(len(rows))
    # Whoever finds no partner gets a column of its own, at the price of a score of 0. No cost may be 0.
    costs = np.concatenate([2 - score, np.full(len(rows), 2.0)])
    places = np.concatenate([row, alone]), np.concatenate([column, len(columns) + alone])
    table = coo_array((costs, places), shape=(len(rows), len(columns) + len(rows)))
    _, partner = min_weight_full_bipartite_matching(table.tocsr())
    return partner[row] == column


def linked(
    place: Indices, a: Indices, b: Indices, score: NDArray[np.float64], after: Indices, before: Indices, step: int
) -> None:
    """Links objects that have no partner yet to those of a later place, place by place.

    Args:
        place: (n,) of each object.
        a, b, score: the candidates, see `best_pairs`.
        after, before: (n,) partner of each object in a later and in an earlier place, -1 where there is none; they
            are changed.
        step: from a place to the later one.
    """
    free = (place[b] - place[a] == step) & (after[a] < 0) & (before[b] < 0)
    a, b, score = a[free], b[free], score[free]
    order = np.argsort(place[a], kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(place[a][order])) + 1):
        chosen = part[best_pairs(a[part], b[part], score[part])]
        after[a[chosen]], before[b[chosen]] = b[chosen], a[chosen]


def chains(before: Indices) -> Indices:
    """The chain that each object lies in, numbered from 0 in the order of their first objects.

    Args:
        before: (n,) the object before each in its chain, which has a lower number; -1 where it is the first.

    >>> chains(np.array([-1, -1, 1, 0])).tolist()
    [0, 1, 1, 0]
    """
    chain = np.cumsum(before < 0) - 1
    for k in np.flatnonzero(before >= 0):
        chain[k] = chain[before[k]]
    return chain
