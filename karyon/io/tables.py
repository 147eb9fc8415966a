"""Results of a set of images as rows of tables."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karyon.instances import Prediction
from karyon.io.lazy_image import Image
from karyon.io.object_groups import runs_of
from karyon.planes import PixelSize

OBJECT_COLUMNS = (
    *("image", "id", "area", "centroid_x", "centroid_y", "x0", "y0", "x1", "y1"),
    *("eccentricity", "mean_intensity", "score"),
    *("area_um2", "diameter_um", "centroid_x_um", "centroid_y_um"),
)


def object_rows(prediction: Prediction, source: Image) -> Iterator[tuple[Any, ...]]:
    """Describes each object.

    Args:
        prediction: of one image.
        source: the image's original pixels, (H, W) or (H, W, C), any type.

    Yields:
        the entries of `OBJECT_COLUMNS`; those in um are empty where the size of a pixel is not known.
    """
    labels, boxes = prediction.instances.labels, prediction.instances.boxes
    for number, (x0, y0, x1, y1) in enumerate(boxes.tolist(), start=1):
        # Each in its own box: what is done to all pixels of the image is done once for many objects.
        rows, columns = np.nonzero(labels[y0:y1, x0:x1] == number)
        centre_y, centre_x = float(rows.mean()), float(columns.mean())
        mean = source[y0:y1, x0:x1][rows, columns].mean(dtype=np.float64)
        yield (
            *(prediction.name, number, len(rows), round(centre_x + x0, 2), round(centre_y + y0, 2), x0, y0, x1, y1),
            *(round(eccentricity(rows - centre_y, columns - centre_x), 4), f"{mean:.6g}"),
            round(float(prediction.instances.scores[number - 1]), 4),
            *_in_um(len(rows), centre_x + x0, centre_y + y0, prediction.pixel_size),
        )


def _in_um(area: int, x: float, y: float, pixel_size: PixelSize | None) -> Iterator[str]:
    """Area, diameter of a disc of that area, and centroid; empty where the size of a pixel is not known.

    >>> list(_in_um(4, 10.0, 20.0, PixelSize(0.5, 0.25)))
    ['0.5', '0.797885', '5', '5']
    """
    if pixel_size is None:
        return iter([""] * 4)
    squared = area * pixel_size.x * pixel_size.y
    values = (squared, 2 * math.sqrt(squared / math.pi), x * pixel_size.x, y * pixel_size.y)
    return (f"{value:.6g}" for value in values)


def eccentricity(rows: NDArray[np.floating[Any]], columns: NDArray[np.floating[Any]]) -> float:
    """Eccentricity of the ellipse with the second moments of some pixels, in [0, 1]; 0 is a circle.

    Args:
        rows, columns: of the pixels, px from their centre of mass.

    >>> eccentricity(np.array([0.0, 0.0]), np.array([-0.5, 0.5]))
    1.0
    """
    down, across, mixed = (rows * rows).mean(), (columns * columns).mean(), (rows * columns).mean()
    spread = np.hypot((down - across) / 2, mixed)
    large, small = (down + across) / 2 + spread, (down + across) / 2 - spread
    return float(np.sqrt(1 - max(small, 0) / large)) if large else 0.0


def run_length_rows(prediction: Prediction, name: str) -> Iterator[tuple[str, str]]:
    """The Data Science Bowl's form: a row an object, and one for an image without objects, under its name."""
    if not len(prediction.instances):
        yield name, ""
    for runs in runs_of(prediction.instances):
        yield name, " ".join(map(str, runs.ravel().tolist()))
