"""Images as arrays of any kind: NumPy's, Dask's, xarray's with the names of their axes, and what NumPy can read."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from karyon.errors import DataError, first_line

CHANNELS = ("c", "s", "channel", "band")  # names of an axis of channels; s are the samples of an RGB pixel


def as_plane(image: Any, axes: Sequence[str] | None = None, name: str = "image") -> Any:
    """An image as (H, W) or (H, W, 3 RGB), in NumPy's form, or in Dask's where it has it; no pixel is copied.

    Args:
        image: array of any kind. Axes of length 1 are dropped.
        axes: their names in order, such as ``"CYX"``, in small letters or capitals; xarray's are known, and those of
            others are ``"YX"`` or ``"YXC"``.
        name: of the image, for errors.

    Raises:
        DataError: it is not one image of one channel or of RGB.

    >>> as_plane(np.zeros((3, 4, 5)), "CYX").shape, as_plane([[1, 2, 3]]).shape
    ((4, 5, 3), (1, 3))
    """
    pixels = image.data if is_named(image) else image
    if not is_lazy(pixels):
        pixels = _as_numpy(pixels, name)
    names = axis_names(image, axes, pixels.ndim)
    others = [axis for axis in names if axis not in ("y", "x") and pixels.shape[names.index(axis)] != 1]
    usable = len(names) == pixels.ndim == len(set(names)) and {"y", "x"} <= set(names) and 0 not in pixels.shape
    is_rgb = len(others) == 1 and others[0] in CHANNELS and pixels.shape[names.index(others[0])] == 3
    if not usable or (others and not is_rgb):
        shown = f"the axes {''.join(map(str, axes))}" if axes else f"the shape {tuple(pixels.shape)}"
        raise DataError(
            f"{name}: {shown} cannot be used: expected (H, W) or (H, W, 3), or other orders by name, such as "
            "axes='CYX', with one channel or RGB: choose one of several."
        )
    _check_channels(image, others, name)
    dropped = tuple(names.index(axis) for axis in names if axis not in ("y", "x", *others))
    kept = [axis for axis in names if names.index(axis) not in dropped]
    return pixels.squeeze(dropped).transpose([kept.index(axis) for axis in ("y", "x", *others)])


def labels_like(image: Any, labels: Any) -> Any:
    """A label array (H, W) as an array of the image's kind: xarray's with its coordinates and attributes."""
    if not is_named(image):
        return labels
    y, x = (next(dim for dim in image.dims if str(dim).lower() == axis) for axis in "yx")
    plane = image.isel({dim: 0 for dim in image.dims if dim not in (y, x)}, drop=True)
    # The labels are of no channel.
    chosen = [name for name, coordinate in plane.coords.items() if not coordinate.dims]
    return plane.drop_vars(chosen).transpose(y, x).copy(data=labels)


def axis_names(image: Any, axes: Sequence[str] | None, ndim: int) -> list[str]:
    """The names of an image's axes, in small letters."""
    return [str(axis).lower() for axis in axes or (image.dims if is_named(image) else "yxc"[:ndim])]


def is_named(image: Any) -> bool:
    """Whether it is an array of xarray's, which knows the names of its axes."""
    return hasattr(image, "dims") and hasattr(image, "coords")


def is_lazy(pixels: Any) -> bool:
    """Whether it is an array of Dask's, which is computed when it is asked for."""
    return hasattr(pixels, "dask") and hasattr(pixels, "map_blocks")


def _as_numpy(pixels: Any, name: str) -> Any:
    try:
        array = np.asarray(pixels)
    # What an object says that refuses to be an array.
    except Exception as error:
        raise DataError(f"{name}: it is not an array of numbers ({first_line(error)}).") from None
    if array.dtype.kind not in "buifc":
        raise DataError(f"{name}: it is not an array of numbers, but of {array.dtype}.")
    return array


def _check_channels(image: Any, others: Sequence[str], name: str) -> None:
    """Three stains by name are no RGB image."""
    for dim in image.dims if is_named(image) else ():
        if str(dim).lower() in others and dim in image.coords and image.coords[dim].dtype.kind in "OUT":
            channels = [str(channel) for channel in image.coords[dim].values]
            if [channel[:1].lower() for channel in channels] != ["r", "g", "b"]:
                raise DataError(
                    f"{name}: its channels {', '.join(channels)} are not RGB: choose one, such as "
                    f"image.sel({dim}={channels[0]!r})."
                )
