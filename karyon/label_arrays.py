"""An image in, an array of labels out, in one line."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karyon.arrays import as_plane, is_lazy, labels_like
from karyon.inference.views import Diameter
from karyon.model import DEFAULT, Model, find_bundle, load_model
from karyon.preprocessing import Background


def segment(
    image: Any,
    model: Model | str | Path = DEFAULT,
    axes: Sequence[str] | None = None,
    diameter: Diameter = "auto",
    background: Background = "auto",
    pixel_size: float | None = None,
) -> Any:
    """Finds the objects of an image: an array in, an array of labels out.

    A model that is named is loaded once and kept, until its files change.

    Args:
        image: array of any kind; see `karyon.arrays.as_plane`.
        model: name, bundle or checkpoint, as `load_model` takes it; or a model with options of its own.
        axes: names of the image's axes, such as ``"CYX"``.
        diameter: see `Model.answer`, as for the two below.
        background: of the image, where it is known.
        pixel_size: of the image, um.

    Returns:
        int32 (H, W), 0 background, 1..N the objects: NumPy's; xarray's for an image of xarray's, with its coordinates
        and attributes; Dask's for one of Dask's, computed in one piece when it is asked for.

    Raises:
        DataError: the pixels or the model cannot be used.

    >>> segment(np.eye(8) > 1).any()
    np.False_
    """
    plane = as_plane(image, axes)

    def labels(pixels: Any) -> NDArray[np.int32]:
        chosen = model if isinstance(model, Model) else _kept(str(model), _changed(model))
        return chosen.answer(pixels, diameter, "image", None, background, pixel_size).instances.labels

    if not is_lazy(plane):
        return labels_like(image, labels(plane))
    dropped = 2 if plane.ndim == 3 else None
    return labels_like(image, plane.rechunk(-1).map_blocks(labels, drop_axis=dropped, meta=np.zeros((0, 0), np.int32)))


@lru_cache(maxsize=4)
def _kept(name: str, changed: int) -> Model:
    return load_model(name)


def _changed(name: str | Path) -> int:
    """When what describes a model was written last, ns."""
    source = find_bundle(name)
    return (source / "card.json" if source.is_dir() else source).stat().st_mtime_ns
