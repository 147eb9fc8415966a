"""OME-Zarr (NGFF 0.4 and 0.5): images, plates and files of bioformats2raw are read, label images are written."""

import json
import math
import shutil
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from karyon.errors import DataError
from karyon.io.lazy_image import LARGE, LazyImage, Pixels, Region, assemble
from karyon.io.pages import Pages, channel_index, in_one_sentence
from karyon.io.pixel_size import UNITS
from karyon.io.room import check_bound
from karyon.labels import LabelImage
from karyon.planes import PixelSize

KEPT = 2**26  # bytes of decoded chunks that neighbouring regions share
CHUNK = 1024  # px
RED_GREEN_BLUE = ["FF0000", "00FF00", "0000FF"]


def metadata(folder: Path) -> dict[str, Any] | None:
    """What OME-Zarr says of a group; None where a folder is none of Zarr's."""
    try:
        for name, is_new in (("zarr.json", True), (".zattrs", False)):
            if (folder / name).is_file():
                content = json.loads((folder / name).read_bytes())
                return dict(content.get("attributes", {}).get("ome", {}) if is_new else content)
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return {} if (folder / ".zgroup").is_file() or (folder / ".zarray").is_file() else None


def images_in(folder: Path) -> list[Path] | None:
    """The images of an OME-Zarr: itself, those of a plate's wells, or the series of bioformats2raw.

    None where a folder is none of Zarr's; the folder itself where it names no image inside, so that its reader says so.
    """
    says = metadata(folder)
    if says is None:
        return None
    try:
        named = [folder / name for name in _names_in(folder, says)]
    except (KeyError, TypeError, AttributeError):
        named = []
    return [path for path in named if folder.resolve() in path.resolve().parents] or [folder]


def _names_in(folder: Path, says: dict[str, Any]) -> list[str]:
    """Paths of images below a group, as its metadata name them."""
    if "plate" in says:
        wells = [well["path"] for well in says["plate"]["wells"]]
        fields = [(well, (metadata(folder / well) or {})["well"]["images"]) for well in wells]
        return [f"{well}/{image['path']}" for well, images in fields for image in images]
    if "bioformats2raw.layout" in says:
        numbers = (str(k) for k in range(len(list(folder.iterdir()))))
        return (metadata(folder / "OME") or {}).get("series") or [k for k in numbers if (folder / k).is_dir()]
    return []


def open_ome_zarr(path: Path, name: str, channel: int | None = None) -> Pages:
    """Opens an image of OME-Zarr; see `karyon.io.reading.open_image`.

    Raises:
        DataError: zarr is not installed, it is no image, or several channels of which none is chosen.
    """
    says = metadata(path) or {}
    if not says.get("multiscales"):
        raise DataError(f"{name} is Zarr without the metadata of an image (NGFF 0.4 or 0.5): write it as OME-Zarr.")
    zarr = _zarr(name)
    with in_one_sentence(name):
        scales = says["multiscales"][0]
        axes = "".join(axis if isinstance(axis, str) else axis["name"] for axis in scales["axes"]).upper()
        arrays = [zarr.open_array(path / level["path"], mode="r") for level in scales["datasets"]]
        if not axes.endswith("YX") or any(array.ndim != len(axes) for array in arrays):
            raise DataError(f"{name} has the axes {axes} of shape {arrays[0].shape}: expected (T, C, Z,) Y, X.")
        size = _pixel_size(scales)
    at, before = axes.find("C"), arrays[0].shape[:-2]
    colours = channel is None and at >= 0 and _is_rgb(says, before[at], arrays[0].dtype)
    taken = channel_index(channel, before[at], name) if at >= 0 and not colours else None
    shape = tuple(side for axis, side in zip(axes, before, strict=False) if axis != "C")

    def lazy(k: int) -> LazyImage:
        index: list[Any] = [int(position) for position in np.unravel_index(k, shape)] if shape else []
        if at >= 0:
            index.insert(at, slice(None) if colours else taken)
        levels = [_lazy_image(array, tuple(index), name) for array in arrays]
        return replace(levels[0], coarser=levels[1:])

    chosen = (taken, before[at]) if taken is not None and before[at] > 1 else None
    parts = len(arrays) > 1 or math.prod(arrays[0].shape[-2:]) * arrays[0].dtype.itemsize > LARGE
    shown = axes.replace("C", "")[:-2]
    # A single plane is no stack.
    kept = shape if math.prod(shape) > 1 else ()

    def read(k: int) -> Pixels:
        image = lazy(k)
        check_bound(name, math.prod(image.shape) * image.dtype.itemsize)
        return np.asarray(image)

    return Pages(kept, shown if kept else "", read, chosen, size, lazy if parts else None)


def _lazy_image(array: Any, index: tuple[Any, ...], name: str) -> LazyImage:
    tall, wide = array.chunks[-2:]
    samples = (3,) if slice(None) in index else ()
    check_bound(name, math.prod(array.chunks) * array.dtype.itemsize)

    def read_part(y: int, x: int) -> Pixels:
        where = slice(y * tall, (y + 1) * tall), slice(x * wide, (x + 1) * wide)
        pixels = np.asarray(array[(*index, *where)])
        return np.moveaxis(pixels, 0, -1) if samples else pixels

    part = lru_cache(max(4, KEPT // (tall * wide * array.dtype.itemsize * math.prod(samples))))(read_part)

    def read(region: Region) -> Pixels:
        with in_one_sentence(name):
            out = np.empty((*(side.stop - side.start for side in region), *samples), array.dtype)
            assemble(out, region, (tall, wide), part)
            return out

    return LazyImage((*array.shape[-2:], *samples), array.dtype, read, name)


def _is_rgb(says: dict[str, Any], count: int, dtype: Any) -> bool:
    """Whether three channels of 8 bit are shown in red, green and blue, and have no names of stains."""
    channels = says.get("omero", {}).get("channels", [])
    colours = [str(channel.get("color", "")).upper() for channel in channels]
    named = any(str(channel.get("label", ""))[:1].upper() not in ("", *"RGBC0123") for channel in channels)
    return count == 3 and dtype == np.uint8 and colours == RED_GREEN_BLUE and not named


def _pixel_size(scales: dict[str, Any]) -> PixelSize | None:
    factors = np.ones(2)
    for place in (scales, scales["datasets"][0]):
        for change in place.get("coordinateTransformations", []):
            if change["type"] == "scale":
                factors *= change["scale"][-2:]
    units = [axis.get("unit", "") if isinstance(axis, dict) else "" for axis in scales["axes"][-2:]]
    if not set(units) <= UNITS.keys():
        return None
    y, x = (float(factor) * UNITS[unit] for factor, unit in zip(factors, units, strict=True))
    return PixelSize.measured(x, y)


def write_label_zarr(path: Path, labels: LabelImage, pixel_size: PixelSize | None = None) -> None:
    """Writes a label image (H, W) as an OME-Zarr of NGFF 0.5: uint32, each resolution of every second pixel.

    It appears under its name when it is whole.
    """
    zarr = _zarr(str(path))
    writing = path.with_name(f"{path.name}.writing")
    shutil.rmtree(writing, ignore_errors=True)
    levels = 1 + max(0, math.ceil(math.log2(max(labels.shape) / CHUNK)))
    size, unit = (
        (pixel_size.y, pixel_size.x) if pixel_size else (1.0, 1.0),
        {"unit": "micrometer"} if pixel_size else {},
    )
    axes = [{"name": axis, "type": "space", **unit} for axis in "yx"]
    places = [
        {"path": str(k), "coordinateTransformations": [{"type": "scale", "scale": [side * 2**k for side in size]}]}
        for k in range(levels)
    ]
    scales = {"name": path.stem, "axes": axes, "datasets": places, "type": "nearest"}
    says = {"version": "0.5", "multiscales": [scales], "image-label": {"source": {}}}
    zarr.open_group(writing, mode="w", zarr_format=3, attributes={"ome": says})
    for k in range(levels):
        part = labels[:: 2**k, :: 2**k]
        array = zarr.create_array(
            writing / str(k), shape=part.shape, dtype="uint32", chunks=(CHUNK, CHUNK), dimension_names=["y", "x"]
        )
        for top in range(0, part.shape[0], CHUNK):
            array[top : top + CHUNK] = part[top : top + CHUNK].astype(np.uint32)
    shutil.rmtree(path, ignore_errors=True)
    writing.rename(path)


def _zarr(name: str) -> Any:
    try:
        import zarr
    except ImportError:
        raise DataError(f'{name}: OME-Zarr needs the package zarr: pip install "karyon[zarr]".') from None
    return zarr
