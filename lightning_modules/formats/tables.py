"""Results of a set of images as rows of tables."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import regionprops_table

from datamodules.sample import encode_objects
from lightning_modules.instances import Prediction

OBJECT_COLUMNS = (
    *("image", "id", "area", "centroid_x", "centroid_y", "x0", "y0", "x1", "y1"),
    *("eccentricity", "mean_intensity", "score"),
)


def object_rows(prediction: Prediction, source: NDArray[Any]) -> Iterator[tuple[Any, ...]]:
    """Describes each object.

    Args:
        prediction: of one image.
        source: the image's original pixels, (H, W) or (H, W, C), any type.

    Yields:
        the entries of `OBJECT_COLUMNS`.
    """
    labels = prediction.instances.labels.numpy()
    intensity = source if source.ndim == 2 else source.mean(axis=-1, dtype=np.float32)
    properties = ("label", "area", "centroid", "bbox", "eccentricity", "intensity_mean")
    found = regionprops_table(labels, intensity, properties=properties)
    scores = prediction.instances.scores.numpy()[found["label"].astype(int) - 1]
    columns = [[prediction.name] * len(scores)]
    columns += [found[key].astype(int) for key in ("label", "area")]
    columns += [found[f"centroid-{axis}"].round(2) for axis in (1, 0)]
    columns += [found[f"bbox-{edge}"] for edge in (1, 0, 3, 2)]
    columns += [found["eccentricity"].round(4), [f"{mean:.6g}" for mean in found["intensity_mean"]], scores.round(4)]
    return zip(*columns, strict=True)


def run_length_rows(prediction: Prediction) -> Iterator[tuple[str, str]]:
    """The Data Science Bowl's form: a row an object, and one for an image without objects."""
    codes = encode_objects(prediction.instances.labels.numpy()) or [""]
    return ((prediction.name, code) for code in codes)
