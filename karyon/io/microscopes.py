"""Files of microscopes' own formats: CZI, ND2 and LIF, each read by a package that is an extra of its own."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np

from karyon.errors import DataError
from karyon.io.lazy_image import LARGE, OVERVIEW, LazyImage, Pixels, Region
from karyon.io.other_formats import BY_OTHERS
from karyon.io.pages import Pages, channel_index, in_one_sentence, refuse_choice
from karyon.io.room import check_bound
from karyon.planes import PixelSize

READING = Lock()  # by one thread at a time


class Microscope(Protocol):
    """A file of a microscope.

    Attributes:
        lengths: of the axes P (positions, or scenes), T, Z and C, as far as there are any.
        side: height and width of a plane, px.
        colours: whether a pixel is red, green and blue.
        dtype: of the pixels.
        pixel_size: None where the file does not say.
        in_parts: whether regions are read without the rest.
        levels: at how many resolutions, each half as fine as the one before.
    """

    lengths: Mapping[str, int]
    side: tuple[int, int]
    colours: bool
    dtype: np.dtype[Any]
    pixel_size: PixelSize | None
    in_parts: bool
    levels: int

    def read(self, index: Mapping[str, int], region: Region, level: int = 0) -> Pixels:
        """A region, (h, w) or (h, w, 3 RGB), of a plane, where each pixel stands for 2**level in either direction."""


def open_microscope(path: Path, name: str, channel: int | None = None) -> Pages:
    """Opens a file of CZI, ND2 or LIF; see `karyon.io.reading.open_image`.

    Its scenes, such as the positions of a stage, are images as its times and depths are (axis P).

    Raises:
        DataError: the package is not installed, the file is damaged, its scenes differ, or it has several channels of
            which none is chosen.
    """
    with in_one_sentence(name), READING:
        file = READERS[path.suffix.lower()](path, name)
    channels = 1 if file.colours else file.lengths.get("C", 1)
    if channels == 1 and not file.colours:
        refuse_choice(channel, name)
    taken = channel_index(None if file.colours else channel, channels, name)
    shade = channel_index(channel, 3, name) if file.colours and channel else None
    axes = "".join(axis for axis, length in file.lengths.items() if axis != "C" and length > 1)
    shape = tuple(file.lengths[axis] for axis in axes)
    samples = (3,) if file.colours and shade is None else ()

    def reader(k: int, level: int = 0) -> Callable[[Region], Pixels]:
        position = dict(zip(axes, map(int, np.unravel_index(k, shape)), strict=True)) if shape else {}
        index = dict.fromkeys(file.lengths, 0) | position | ({"C": taken} if "C" in file.lengths else {})

        def read_region(region: Region) -> Pixels:
            with in_one_sentence(name), READING:
                pixels = file.read(index, region, level)
            return pixels if shade is None else pixels[..., shade]

        return read_region

    def read(k: int) -> Pixels:
        check_bound(name, math.prod((*file.side, *samples)) * file.dtype.itemsize)
        return reader(k)((slice(0, file.side[0]), slice(0, file.side[1])))

    def lazy(k: int) -> LazyImage:
        levels = [
            LazyImage((file.side[0] >> level, file.side[1] >> level, *samples), file.dtype, reader(k, level), name)
            for level in range(file.levels)
        ]
        return replace(levels[0], coarser=levels[1:])

    in_parts = file.in_parts and math.prod(file.side) * file.dtype.itemsize > LARGE
    chosen = (taken, channels) if channels > 1 else None
    return Pages(shape, axes, read, chosen, file.pixel_size, lazy if in_parts else None)


class Zeiss:
    """CZI, of which regions are read at any resolution; tiles are put together, and so are scenes that differ in size.

    Source: https://github.com/ZEISS/pylibczirw.
    """

    in_parts = True
    # What no tile covers, as on a slide.
    GROUND = (1.0, 1.0, 1.0)

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.czi = path, _package("pylibCZIrw.czi", "czi", name)
        with self._open() as file:
            box = file.total_bounding_box_no_pyramid
            kind = file.get_channel_pixel_type(0).lower()
            scenes = list(file.scenes_bounding_rectangle_no_pyramid.values())
            says = file.metadata
        others = [
            f"{axis} ({end - start})" for axis, (start, end) in box.items() if axis not in "XYTZC" and end - start > 1
        ]
        if others:
            raise DataError(f"{name} has further dimensions, {', '.join(others)}: save each as an OME-TIFF.")
        whole = tuple(box["X"][:1] + box["Y"][:1] + (box["X"][1] - box["X"][0], box["Y"][1] - box["Y"][0]))
        alike = len({(scene.w, scene.h) for scene in scenes}) == 1
        self.boxes = [(scene.x, scene.y, scene.w, scene.h) for scene in scenes] if alike else [whole]
        self.side = self.boxes[0][3], self.boxes[0][2]
        self.lengths: Mapping[str, int] = {"P": len(self.boxes)} | {
            axis: box[axis][1] - box[axis][0] for axis in "TZC" if axis in box
        }
        self.colours = kind.startswith("bgr")
        self.dtype = np.dtype(KINDS[kind])
        self.pixel_size = _zeiss_pixel_size(says)
        self.levels = 1 + max(0, math.ceil(math.log2(max(self.side) / OVERVIEW)))

    def read(self, index: Mapping[str, int], region: Region, level: int = 0) -> Pixels:
        x, y, _, _ = self.boxes[index["P"]]
        rows, columns = region
        step = 2**level
        roi = (
            *(x + columns.start * step, y + rows.start * step),
            *((columns.stop - columns.start) * step, (rows.stop - rows.start) * step),
        )
        plane = {axis: position for axis, position in index.items() if axis != "P"}
        scene = index["P"] if len(self.boxes) > 1 else None
        ground = self.GROUND if self.colours else (0.0, 0.0, 0.0)
        with self._open() as file:
            pixels = file.read(roi=roi, plane=plane, scene=scene, zoom=1 / step, background_pixel=ground)
        # Blue is stored first.
        return pixels[..., ::-1] if self.colours else pixels[..., 0]

    def _open(self) -> Any:
        return self.czi.open_czi(str(self.path))


KINDS = {
    **{"gray8": np.uint8, "gray16": np.uint16, "gray32float": np.float32},
    **{"bgr24": np.uint8, "bgr48": np.uint16, "bgr96float": np.float32},
}


def _zeiss_pixel_size(says: Any) -> PixelSize | None:
    with suppress(LookupError, TypeError, ValueError):
        distances = says["ImageDocument"]["Metadata"]["Scaling"]["Items"]["Distance"]
        # In metres.
        sides = {each["@Id"]: float(each["Value"]) * 1e6 for each in distances}
        return PixelSize.measured(sides["X"], sides["Y"], sides.get("Z", 0.0))
    return None


class Bioio:
    """What bioio's readers open.

    Source: https://github.com/bioio-devs/bioio-base.
    """

    levels = 1

    def __init__(self, path: Path, name: str, package: str, in_parts: bool, unknown: float = 0.0) -> None:
        self.reader, self.in_parts = _package(f"bioio_{package}", package, name).Reader(path), in_parts
        scenes, shape = self.reader.scenes, self._shape()
        for scene in scenes[1:]:
            self.reader.set_scene(scene)
            if self._shape() != shape:
                raise DataError(
                    f"{name} holds {len(scenes)} images of different sizes ({', '.join(scenes[:4])}): save each as an "
                    "OME-TIFF."
                )
        self.lengths: Mapping[str, int] = {"P": len(scenes)} | {
            axis: length for axis, length in shape.items() if axis not in "YXS"
        }
        self.side, self.colours = (shape["Y"], shape["X"]), "S" in shape
        self.dtype = np.dtype(self.reader.dtype)
        z, y, x = (side or 0.0 for side in self.reader.physical_pixel_sizes)
        self.pixel_size = PixelSize.measured(x, y, z) if (x, y) != (unknown, unknown) else None

    def read(self, index: Mapping[str, int], region: Region, level: int = 0) -> Pixels:
        self.reader.set_scene(index["P"])
        plane = {axis: position for axis, position in index.items() if axis != "P"}
        axes = "YXS" if self.colours else "YX"
        if self.in_parts:
            pixels = self.reader.get_image_data(axes, **plane, Y=region[0], X=region[1])
        else:
            lazy = self.reader.get_image_dask_data(axes, **plane)[region]
            # Dask's threads are not there in a process that is forked, such as a data loader's worker.
            pixels = lazy.compute(scheduler="synchronous")
        return np.asarray(pixels[..., :3] if self.colours else pixels)

    def _shape(self) -> dict[str, int]:
        return dict(zip(self.reader.dims.order, map(int, self.reader.dims.shape), strict=True))


def _nikon(path: Path, name: str) -> Microscope:
    # Where a file does not say, a pixel is 1 um wide.
    return Bioio(path, name, "nd2", in_parts=True, unknown=1.0)


def _leica(path: Path, name: str) -> Microscope:
    return Bioio(path, name, "lif", in_parts=False)


READERS: dict[str, Callable[[Path, str], Microscope]] = {".czi": Zeiss, ".nd2": _nikon, ".lif": _leica}


def _package(module: str, extra: str, name: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise DataError(
            f'{name}: {extra.upper()} needs a package of its own: pip install "karyon[{extra}]"; or export OME-TIFF, '
            f"{BY_OTHERS}."
        ) from None
