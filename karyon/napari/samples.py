"""Sample images: nuclei that are drawn, so that nothing is downloaded."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIZE = 256  # px
RADII = (6.0, 12.0)  # px
NUCLEI = 45

Layer = tuple[Any, dict[str, Any], str]
"""As napari takes them: data, arguments, type of layer."""


def fluorescence() -> list[Layer]:
    """One image of bright nuclei, some of them touching."""
    return [(draw(np.random.default_rng(0)), {"name": "nuclei"}, "image")]


def stack() -> list[Layer]:
    """Four time points, of other nuclei each."""
    planes = np.stack([draw(np.random.default_rng(k)) for k in range(4)])
    return [(planes, {"name": "nuclei over time"}, "image")]


def draw(rng: np.random.Generator) -> NDArray[np.uint16]:
    """Ellipses of even brightness, out of focus a little, counted as photons: uint16 (SIZE, SIZE)."""
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    light = np.zeros((SIZE, SIZE), np.float32)
    for _ in range(NUCLEI):
        (y, x), (a, b), angle = rng.uniform(0, SIZE, 2), rng.uniform(*RADII, 2), rng.uniform(0, np.pi)
        along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
        across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
        light[(along / a) ** 2 + (across / b) ** 2 < 1] = rng.uniform(0.2, 1)
    return rng.poisson(20 + 400 * ndimage.gaussian_filter(light, 1.2)).astype(np.uint16)
