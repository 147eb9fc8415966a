"""Cellpose's flow and masks in their plainest form, one object after the other: what ours are compared with.

Source: Stringer et al. 2021, "Cellpose: a generalist algorithm for cellular segmentation", methods; constants from
    https://github.com/MouseLand/cellpose
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def plain_flow(labels: NDArray[Any]) -> NDArray[np.float64]:
    """Unit vectors (2, H, W) to the centres of objects: where heat rises that flows from there, in each one alone."""
    flow = np.zeros((2, *labels.shape))
    for k in np.unique(labels[labels > 0]):
        mask = np.pad(labels == k, 1)
        y, x = np.nonzero(mask)
        centre = np.argmin((y - y.mean()) ** 2 + (x - x.mean()) ** 2)
        heat = np.zeros(mask.shape)
        for _ in range(2 * int(np.ptp(y) + np.ptp(x) + 2)):
            heat[y[centre], x[centre]] += 1
            heat = mask * ndimage.uniform_filter(heat, 3, mode="constant")
        heat = np.log1p(heat)
        rise = np.stack([heat[y + 1, x] - heat[y - 1, x], heat[y, x + 1] - heat[y, x - 1]])
        flow[:, y - 1, x - 1] = rise / (1e-20 + np.hypot(*rise))
    return flow


def plain_masks(flow: NDArray[Any], inside: NDArray[np.bool_], steps: int = 200) -> NDArray[np.int64]:
    """Label image (H, W) of a flow (2, H, W): step by step along it, then peaks of how many paths end where."""
    masked = np.where(inside, flow, 0).astype(float)
    place = np.argwhere(inside).T.astype(float)
    for _ in range(steps):
        step = [ndimage.map_coordinates(component, place, order=1, mode="nearest") for component in masked]
        place = (place + step).clip(0, np.array(inside.shape)[:, None] - 1)
    ends = place.astype(int)
    count = np.zeros(inside.shape)
    np.add.at(count, tuple(ends), 1)
    peaks = np.argwhere((count == ndimage.maximum_filter(count, 5)) & (count > 10))
    basins = np.zeros(inside.shape, dtype=np.int64)
    for k, (y, x) in enumerate(sorted(peaks.tolist(), key=lambda peak: -count[tuple(peak)]), start=1):
        window = np.s_[max(y - 5, 0) : y + 6, max(x - 5, 0) : x + 6]
        many, basin = count[window] > 2, np.zeros(count[window].shape, dtype=bool)
        basin[min(y, 5), min(x, 5)] = True
        for _ in range(5):
            basin = ndimage.binary_dilation(basin, np.ones((3, 3))) & many
        basins[window][basin] = k
    masks = np.zeros(inside.shape, dtype=np.int64)
    masks[inside] = basins[tuple(ends)]
    return masks
