"""Reads an image file of any number of pages and channels, one image at a time."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from datamodules.reading import TIFF_SIGNATURES, Pixels, check_whole, decode_image, read_bytes, read_series
from datamodules.sample import DataError, first_line


@dataclass(frozen=True)
class Pages:
    """The images of a file.

    Attributes:
        shape: of the axes before height and width; () for a single image.
        axes: their names as tifffile gives them, such as ``TZ``.
        read: reads one of the ``math.prod(shape)`` images, (H, W) or (H, W, 3 RGB), counted from 0.
    """

    shape: tuple[int, ...]
    axes: str
    read: Callable[[int], Pixels]

    def __len__(self) -> int:
        return math.prod(self.shape)


def open_pages(path: Path, channel: int | None = None) -> Pages:
    """Opens an image file: each page, time or depth is an image.

    Args:
        path: TIFF, OME-TIFF, PNG, JPEG, WebP or BMP.
        channel: the one to take of an image of several, from 1; colour images need none.

    Raises:
        DataError: the file is damaged, holds separate images, or several channels of which none is chosen.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check the path and who may read it.") from None
    if start in TIFF_SIGNATURES:
        try:
            return _open_tiff(path, channel)
        except (DataError, MemoryError):
            raise
        # As in `datamodules.reading.decode_image`.
        except Exception as error:
            reason = first_line(error)
            raise DataError(
                f"{path} cannot be read ({reason}): the file is damaged or cut short; copy it again, or save it "
                "without compression if other programs open it."
            ) from None
    pixels = _pick(decode_image(read_bytes(path), str(path)), channel, path)
    return Pages((), "", lambda _: pixels)


def _open_tiff(path: Path, channel: int | None) -> Pages:
    with tifffile.TiffFile(path) as file:
        check_whole(file)
        series = _only_series(file, path)
        pixels, axes = _as_shown(read_series(file, series), series.axes, series.keyframe)
    if "Y" not in axes or "X" not in axes:
        raise DataError(f"{path} has the axes {axes}: expected an image with a height and a width.")
    # Colours last, channels of a microscope apart: the latter have to be chosen from.
    order = [axis for axis in axes if axis not in "YXSC"] + [axis for axis in "CYXS" if axis in axes]
    pixels = pixels.transpose([axes.index(axis) for axis in order])
    if "C" in axes:
        place = order.index("C")
        pixels = pixels[(slice(None),) * place + (_channel_index(channel, pixels.shape[place], path),)]
        order.remove("C")
        channel = None
    leading = "".join(axis for axis in order if axis not in "YXS")
    shape = pixels.shape[: len(leading)]
    pages = Pages(shape, leading, lambda k: _pick(pixels[np.unravel_index(k, shape)], channel, path))
    # So that a wrong choice of channel is told before anything is done.
    pages.read(0)
    return pages


def _only_series(file: tifffile.TiffFile, path: Path) -> tifffile.TiffPageSeries:
    """The image that a file holds; of a set of OME-TIFFs, each of which names the images of all, the file's own."""
    own = [series for series in file.series if all(page is not None and page.parent is file for page in series.pages)]
    if len(own) > 1:
        sizes = ", ".join(" x ".join(map(str, series.shape)) for series in own[:4])
        raise DataError(f"{path} holds {len(own)} separate images ({sizes}): save each as a file.")
    if own:
        return own[0]
    if len(file.pages) > 1:
        raise DataError(
            f"{path} holds some of the planes that its OME-XML names, and the others lie in other files or nowhere: "
            "save the image as one file."
        )
    return tifffile.TiffPageSeries([file.pages.first])


def _as_shown(pixels: Pixels, axes: str, page: tifffile.TiffPage) -> tuple[Pixels, str]:
    """Turns what a file holds into intensities: bright is bright, and only colours are samples (S) of a pixel.

    A palette that grows brighter with the index tints intensities, as microscopes' programs do; any other is colours.
    """
    kinds = tifffile.PHOTOMETRIC
    if page.photometric == kinds.MINISWHITE and pixels.dtype.kind in "ub":
        return np.invert(pixels), axes
    if page.photometric == kinds.PALETTE and page.colormap is not None:
        colours = (page.colormap >> 8).astype(np.uint8)
        if (np.diff(colours.sum(0, dtype=int)) < 0).any():
            return colours.T[pixels], f"{axes}S"
    if "S" in axes and "C" not in axes and page.photometric not in (kinds.RGB, kinds.YCBCR):
        transparency = sum(extra in (1, 2) for extra in page.extrasamples)
        samples = np.moveaxis(pixels, axes.index("S"), 0)[: page.samplesperpixel - transparency]
        return samples, "C" + axes.replace("S", "")
    return pixels, axes


def _channel_index(channel: int | None, count: int, path: Path) -> int:
    if count == 1 and channel is None:
        return 0
    if channel is None or not 1 <= channel <= count:
        raise DataError(f"{path} has {count} channels: choose the one with the objects, --channel 1 to {count}.")
    return channel - 1


def _pick(pixels: Pixels, channel: int | None, path: Path) -> Pixels:
    """The channel chosen, or the image where it is grey or in colour; transparency is left out."""
    if pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4):
        pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels[..., :3]
        if channel is None:
            return pixels
    if pixels.ndim == 3:
        return pixels[..., _channel_index(channel, pixels.shape[2], path)]
    if channel is not None:
        raise DataError(f"{path} has one channel: leave --channel out.")
    return pixels
