"""3-D objects out of the 2-D objects of planes."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from karyon.linking.assignment import chains, linked
from karyon.linking.sections import Sections, Shared


def link_planes(
    sections: Sections, shared: Shared, min_overlap: float = 0.5, gap: int = 1, neck: float = 0.5
) -> NDArray[np.int64]:
    """Links the sections of an object, and cuts between objects that lie on each other.

    Sections of planes next to each other are linked one to one, so that the sum of their IoUs is greatest; then those
    without a partner across a gap. The same objects come out where the stack is turned upside down.

    Args:
        sections: of the stack.
        shared: what those of planes up to ``gap`` + 1 apart share.
        min_overlap: share of the smaller section that lies in the other, at least, in [0, 1].
        gap: planes in which an object may be missing between two of its sections.
        neck: where a section is smaller than this share of the largest ones above and below, two objects touch
            each other; 0 cuts nowhere.

    Returns:
        int64 (n,), the object of each section, numbered from 0 in the order of their first sections.
    """
    area, count = sections.area, len(sections.area)
    keep = shared.area >= min_overlap * np.minimum(area[shared.a], area[shared.b])
    a, b, common = (column[keep] for column in shared)
    # Among equal IoUs places decide, in a way that has no direction.
    number = np.arange(1, count + 1) - np.searchsorted(sections.plane, sections.plane)
    score = common / (area[a] + area[b] - common) * (1 - 1e-6) - 1e-7 * number[a] * number[b] / max(count, 1) ** 2
    after, before = np.full((2, count), -1)
    for step in range(1, gap + 2):
        linked(sections.plane, a, b, score, after, before, step)
    pixels = dict(zip(zip(a.tolist(), b.tolist(), strict=True), common.tolist(), strict=True))
    for first in np.flatnonzero(before < 0).tolist():
        chain = [first]
        while after[chain[-1]] >= 0:
            chain.append(int(after[chain[-1]]))
        seams = [pixels[pair] for pair in pairwise(chain)]
        for cut in _necks(area[chain].tolist(), seams, neck):
            before[chain[cut + 1]] = -1
    return chains(before)


def _necks(areas: Sequence[int], seams: Sequence[int], neck: float) -> list[int]:
    """Where to cut a chain of sections.

    Args:
        areas: (n,) of the sections, px.
        seams: (n - 1,) what neighbours share, px.
        neck: see `link_planes`.

    Returns:
        numbers of the seams, from 0.

    >>> _necks([1, 50, 90, 60, 9, 8, 70, 40], [1, 50, 60, 9, 8, 8, 40], 0.5)
    [4]
    """
    largest = [*accumulate(areas, max)], [*accumulate(reversed(areas), max)][::-1]
    thin = [
        seam
        for seam in range(len(seams))
        if min(areas[seam], areas[seam + 1]) < neck * min(largest[0][seam], largest[1][seam + 1])
    ]
    if not thin:
        return []
    cut = min(thin, key=lambda seam: (areas[seam] + areas[seam + 1], seams[seam]))
    below = _necks(areas[: cut + 1], seams[:cut], neck)
    above = _necks(areas[cut + 1 :], seams[cut + 1 :], neck)
    return [*below, cut, *(cut + 1 + seam for seam in above)]
