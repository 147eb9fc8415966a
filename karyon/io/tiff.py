"""Opens TIFF files of any number of pages and channels, as a viewer shows them."""

import io
import logging
import math
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import tifffile

from karyon.errors import DataError
from karyon.io.lazy_image import LARGE, LazyImage, Region
from karyon.io.pages import (
    Pages,
    Pixels,
    apply_palette,
    channel_index,
    in_one_sentence,
    pick,
    refuse_choice,
)
from karyon.io.pixel_size import pixel_size
from karyon.io.room import IN_MEMORY, check_room
from karyon.io.tiff_regions import Page, region_reader, reopened
from karyon.io.tiff_series import can_be_cut, main_series
from karyon.planes import PixelSize

TIFF_SUFFIXES = {".tif", ".tiff"}
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # of TIFF and BigTIFF

PHOTOMETRIC, COMPRESSION = tifffile.PHOTOMETRIC, tifffile.COMPRESSION
COLOURS = {PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR, PHOTOMETRIC.SEPARATED}
KNOWN = {PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.PALETTE, *COLOURS}
# Decoded into RGB.
JPEG = {COMPRESSION.OJPEG, COMPRESSION.JPEG, COMPRESSION.ALT_JPEG, COMPRESSION.JPEG_LOSSY}
# Bytes that one byte can be unpacked to; others know no bound.
EXPANSION: dict[int, float] = {
    COMPRESSION.NONE: 1,
    COMPRESSION.PACKBITS: 64,
    COMPRESSION.ADOBE_DEFLATE: 1032,
    COMPRESSION.DEFLATE: 1032,
    COMPRESSION.LZW: 2560,
}

LARGEST_TILE = 2**26  # bytes, where the image itself has less

# What is wrong with a file is said in a sentence that names it, and in no other way.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def open_tiff(source: Path | bytes, name: str, channel: int | None = None, raw: bool = False) -> Pages:
    """Opens a TIFF; see `karyon.io.reading.open_image`.

    Args:
        source: the file, or its content.
        name: what to call it in an error.
        channel: the one to take of an image of several, from 1.
        raw: whether to give the numbers as they are stored, not what they look like, as of label images.
    """
    with tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
        if not file.pages:
            raise ValueError("it has no pages")
        check_whole(file)
        series, passed_over = main_series(file, name)
        before = [(axis, size) for axis, size in zip(series.axes, series.shape, strict=True) if axis not in "YXS"]
        leading, sizes = "".join(axis for axis, _ in before), tuple(size for _, size in before)
        if not {"Y", "X"} <= set(series.axes) or 0 in series.shape:
            raise DataError(
                f"{name} has the axes {series.axes} of shape {series.shape}: expected an image with a height and a "
                "width."
            )
        page = series.keyframe
        check_tags(file, page)
        if page.photometric not in KNOWN and not raw:
            raise DataError(f"{name} has colours as {PHOTOMETRIC(page.photometric).name} stores them: save it as RGB.")
        if page.photometric == PHOTOMETRIC.MINISWHITE and np.dtype(page.dtype).kind not in "uib" and not raw:
            raise DataError(f"{name} stores white as 0 in {page.dtype}, which no two programs show alike: invert it.")
        read_plane = _plane_reader(file, series, name)
        size = pixel_size(file, series)
    # Channels of a microscope are chosen from here, samples that are not colours once they are read.
    at = leading.find("C")
    chosen = () if at < 0 else (channel_index(channel, sizes[at], name),)
    sample = None if chosen else channel
    if not chosen and not raw:
        sample = _check_samples(page, channel, name)
    taken = (chosen[0], sizes[at]) if chosen else None
    if sample and page.photometric not in (PHOTOMETRIC.PALETTE, *COLOURS):
        taken = (sample - 1, page.samplesperpixel - _transparencies(page))
    shape = sizes[:at] + sizes[at + 1 :] if chosen else sizes

    def read(k: int) -> Pixels:
        index = tuple(int(position) for position in np.unravel_index(k, shape))
        with in_one_sentence(name), reopened(file.filehandle):
            pixels, axes = read_plane(index[:at] + chosen + index[at:] if chosen else index)
            pixels = pixels.transpose([axes.index(axis) for axis in "YXS" if axis in axes])
            return pick(pixels if raw else _as_shown(pixels, page), sample, name)

    def shown(pixels: Pixels) -> Pixels:
        return pick(pixels if raw else _as_shown(pixels, page), sample, name)

    def lazy(k: int) -> LazyImage:
        index = tuple(int(position) for position in np.unravel_index(k, shape))
        with in_one_sentence(name), reopened(file.filehandle):
            return _lazy_image(series, index[:at] + chosen + index[at:] if chosen else index, shown, name)

    parts = can_be_cut(series) and (series.is_pyramidal or page.nbytes > LARGE)
    return Pages(shape, leading.replace("C", ""), read, taken, size, lazy if parts else None, passed_over)


def tiff_pixel_size(path: Path) -> PixelSize | None:
    """The size of the pixels of an image that can be read; None where its file does not say, or is no TIFF."""
    try:
        with tifffile.TiffFile(path) as file:
            return pixel_size(file, main_series(file, str(path))[0])
    except tifffile.TiffFileError:
        return None


def check_whole(file: tifffile.TiffFile) -> None:
    """Raises a ValueError for a TIFF whose last pages are missing."""
    # Each plane points to the next, the last to none. Tifffile only logs a pointer that leads out of the file.
    file.filehandle.seek(file.pages.next_page_offset or 0)
    (following,) = struct.unpack(file.tiff.offsetformat, file.filehandle.read(file.tiff.offsetsize))
    if following:
        raise ValueError("its last planes are missing")


def check_tags(file: tifffile.TiffFile, page: tifffile.TiffPage) -> None:
    """Raises a ValueError for a page of which tags cannot be read.

    Tifffile only logs that, and reads the pixels as what they are where the tag is left out.
    """
    file.filehandle.seek(page.offset)
    (declared,) = struct.unpack(file.tiff.tagnoformat, file.filehandle.read(file.tiff.tagnosize))
    if len(page.tags) < declared:
        raise ValueError(f"{declared - len(page.tags)} of its {declared} tags cannot be read")


Plane = tuple[Pixels, str]
"""Pixels as they are stored, and their axes, of Y, X, S."""


def _plane_reader(
    file: tifffile.TiffFile, series: tifffile.TiffPageSeries, name: str
) -> Callable[[tuple[int, ...]], Plane]:
    """A function from a position along the axes before Y, X, S to a plane."""
    page = series.keyframe
    packed = file.filehandle.size
    tile = page.tile if page.is_tiled else None
    if tile and math.prod(tile) * page.samplesperpixel * page.nbytes // page.size > max(LARGEST_TILE, 4 * page.nbytes):
        raise ValueError(f"its tiles of {' x '.join(map(str, tile))} px are far larger than the image")
    paged = set(page.axes) <= set("YXS") and series.axes.endswith(page.axes)
    before = series.shape[: -len(page.axes)]
    if paged and math.prod(before) == len(series.pages):

        def read_page(index: tuple[int, ...]) -> Plane:
            this = series.pages[int(np.ravel_multi_index(index, before)) if index else 0]
            assert this is not None, "images with planes in other files are not opened"
            _check_declared(this, page, packed, name, not page.is_memmappable)
            return this.asarray(out="memmap" if page.nbytes > IN_MEMORY else None), page.axes

        return read_page
    mapped = file.filehandle.is_file and series.dataoffset is not None
    check_room(name, series.nbytes, packed, _expansion(page), not mapped)
    pixels = series.asarray(out="memmap" if mapped or series.nbytes > IN_MEMORY else None)
    axes = "".join(axis for axis in series.axes if axis in "YXS")
    order = [k for k, axis in enumerate(series.axes) if axis not in "YXS"]
    pixels = pixels.transpose(order + [series.axes.index(axis) for axis in axes])
    return lambda index: (pixels[index], axes)


def _lazy_image(
    series: tifffile.TiffPageSeries, index: tuple[int, ...], shown: Callable[[Pixels], Pixels], name: str
) -> LazyImage:
    """A plane of a series with its resolutions.

    Args:
        series: for which `karyon.io.tiff_series.can_be_cut`.
        index: of the plane, along the axes before Y, X, S.
        shown: turns pixels as they are stored, (h, w) or (h, w, S), into what a viewer shows.
        name: of the image, for errors.
    """
    packed, levels = series.keyframe.parent.filehandle.size, []
    for level in series.levels:
        before = level.shape[: -len(level.keyframe.axes)]
        page = level.pages[int(np.ravel_multi_index(index, before)) if index else 0]
        assert page is not None, "images with planes in other files are not opened"
        keyframe = level.keyframe
        _check_declared(page, keyframe, packed, name, unpacked=False)
        stored = region_reader(page, keyframe)

        def read(region: Region, stored: Callable[[Region], Pixels] = stored) -> Pixels:
            with in_one_sentence(name):
                return shown(stored(region))

        samples = (keyframe.samplesperpixel,) if "S" in keyframe.axes else ()
        kind = shown(np.zeros((1, 1, *samples), keyframe.dtype))
        size = keyframe.imagelength, keyframe.imagewidth
        levels.append(LazyImage((*size, *kind.shape[2:]), kind.dtype, read, name))
    return replace(levels[0], coarser=levels[1:])


def _check_declared(page: Page, keyframe: tifffile.TiffPage, packed: int, name: str, unpacked: bool) -> None:
    """Compares what a page declares with what a file of so many bytes can hold, as `check_room` does."""
    ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if max(ends, default=0) > packed:
        raise ValueError("its pixels lie beyond its end")
    if any(start and not count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)):
        raise ValueError("it does not say how long its parts are")
    # Where a part has neither bytes nor a place, the file is sparse.
    bound = _expansion(keyframe) if all(page.databytecounts) else math.inf
    check_room(name, keyframe.nbytes, sum(page.databytecounts), bound, unpacked)


def _expansion(page: tifffile.TiffPage) -> float:
    """How many bytes of pixels a byte of the file can become."""
    return EXPANSION.get(page.compression, math.inf) * 8 * page.nbytes / page.size / page.bitspersample


def _check_samples(page: tifffile.TiffPage, channel: int | None, name: str) -> int | None:
    """The channel to take of a pixel's samples, checked before any is read; None for grey and colours as they are."""
    if page.photometric == PHOTOMETRIC.PALETTE or (page.photometric in COLOURS and page.samplesperpixel > 2):
        return None if channel is None else channel_index(channel, 3, name) + 1
    count = page.samplesperpixel - _transparencies(page)
    if count > 1:
        return channel_index(channel, count, name) + 1
    refuse_choice(channel, name)
    return None


def _transparencies(page: tifffile.TiffPage) -> int:
    return sum(extra in (1, 2) for extra in page.extrasamples)


def _as_shown(pixels: Pixels, page: tifffile.TiffPage) -> Pixels:
    """Turns what a page holds, (H, W) or (H, W, S), into intensities and colours: bright is bright.

    Returns:
        (H, W), or (H, W, n): RGB, or channels that are not colours; without transparency.
    """
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        # Of fewer bits than the type has, too.
        unsigned = pixels.dtype.kind == "u"
        pixels = pixels.dtype.type(2**page.bitspersample - 1) - pixels if unsigned else np.invert(pixels)
    if page.photometric == PHOTOMETRIC.PALETTE and page.colormap is not None:
        # Some programs write 8 of the 16 bit.
        return apply_palette(pixels, (page.colormap >> (8 if page.colormap.max() > 255 else 0)).astype(np.uint8).T)
    if page.bitspersample < 8 and pixels.dtype == np.uint8:
        pixels = pixels * np.uint8(255 // (2**page.bitspersample - 1))
    if pixels.ndim == 2:
        return pixels
    if page.photometric == PHOTOMETRIC.SEPARATED:
        return _cmyk_to_rgb(pixels)
    if page.photometric == PHOTOMETRIC.YCBCR and page.compression not in JPEG:
        return cv2.cvtColor(np.ascontiguousarray(pixels[..., [0, 2, 1]]), cv2.COLOR_YCrCb2RGB)
    pixels = pixels[..., : page.samplesperpixel - _transparencies(page)]
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _cmyk_to_rgb(pixels: Pixels) -> Pixels:
    """Of ink, unsigned (H, W, 4), what it leaves of the light, as programs without colour profiles show it.

    >>> _cmyk_to_rgb(np.array([[[0, 255, 255, 0], [0, 0, 0, 200]]], np.uint8))[0].tolist()
    [[255, 0, 0], [55, 55, 55]]
    """
    if pixels.shape[2] < 4 or pixels.dtype.kind != "u":
        raise ValueError(f"its inks, {pixels.dtype} of shape {pixels.shape}, are not CMYK")
    most = np.iinfo(pixels.dtype).max
    light = 1 - pixels[..., :4] / np.float32(most)
    return np.rint(light[..., :3] * light[..., 3:] * most).astype(pixels.dtype)
