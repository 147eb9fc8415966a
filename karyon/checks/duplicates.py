"""Images that show the same field of view."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array, vstack
from scipy.sparse.csgraph import connected_components


def duplicate_groups(names: Sequence[str], thumbnails: Sequence[np.ndarray], threshold: float = 0.98) -> dict[str, str]:
    """Groups images that show the same field of view, even when saved differently.

    Args:
        names: N identifiers.
        thumbnails: N float arrays of one size each, e.g. 16 x 16 grey means.
        threshold: images whose thumbnails correlate above this are duplicates; in DSB2018's 735 stage 1 images the
            pairs of the same field lie above 0.98 (five) and all others below 0.9.

    Returns:
        for each name, the first name of its group.
    """
    flat = np.stack([thumbnail.ravel() for thumbnail in thumbnails]).astype(np.float64)
    flat -= flat.mean(1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    flat = np.divide(flat, norms, out=np.zeros_like(flat), where=norms > 1e-9)
    # Some rows at a time: all against all of 10,000 images would fill a gigabyte.
    alike = vstack([csr_array(flat[k : k + 1000] @ flat.T > threshold) for k in range(0, len(flat), 1000)])
    # Components, since a chain of duplicates is one group even where its ends differ.
    components = connected_components(alike, directed=False)[1]
    first: dict[int, str] = {}
    return {name: first.setdefault(int(component), name) for name, component in zip(names, components, strict=True)}
