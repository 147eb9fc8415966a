"""What an opened image file gives: its images, one at a time."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from karyon.errors import DataError, first_line
from karyon.io.lazy_image import Image, LazyImage
from karyon.planes import PixelSize, Plane, plane_of

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Pages:
    """The images of a file.

    Attributes:
        shape: of the axes before height and width; () for a single image.
        axes: their names as tifffile gives them, such as ``TZ``.
        read: reads one of the ``math.prod(shape)`` images, (H, W) or (H, W, 3 RGB), counted from 0; raises a
            `DataError` where it is damaged.
        channel: the one that was taken, from 0 (-1 for several), and how many there are; None for grey images and
            colours.
        pixel_size: None where the file does not say.
        lazy: opens one of the images, of which regions can be read; None where they are small, or cannot.
        passed_over: other pictures of the file, such as a slide's label, in words.
    """

    shape: tuple[int, ...]
    axes: str
    read: Callable[[int], Pixels]
    channel: tuple[int, int] | None = None
    pixel_size: PixelSize | None = None
    lazy: Callable[[int], LazyImage] | None = None
    passed_over: tuple[str, ...] = ()

    def open(self, page: int) -> Image:
        """One of the images, of which no pixel is read yet where it can be read in parts."""
        return self.lazy(page) if self.lazy else self.read(page)

    def plane(self, page: int) -> Plane:
        """Where one of the images, counted from 0, lies."""
        return plane_of(page, self.axes, self.shape, self.channel)

    def __len__(self) -> int:
        return math.prod(self.shape)


def channel_index(channel: int | None, count: int, name: str) -> int:
    """Position of the channel chosen, from 0, of an image of several channels that are not colours.

    Raises:
        DataError: none is chosen, or there is no such channel.
    """
    if count == 1 and channel is None:
        return 0
    if channel is None or not 1 <= channel <= count:
        raise DataError(
            f"{name} has {count} channels: choose the one with the objects (--channel 1 to {count} of segment), or "
            "three as red, green and blue (--channel 1,2,3), or save that channel, or an RGB image, as a file."
        )
    return channel - 1


def pick(pixels: Pixels, channel: int | None, name: str) -> Pixels:
    """The channel chosen of a grey image (H, W) or of colours (H, W, 3 or more); without a choice, grey or RGB.

    Raises:
        DataError: there is no such channel.
    """
    if pixels.ndim == 3:
        return pixels[..., :3] if channel is None else pixels[..., channel_index(channel, pixels.shape[2], name)]
    refuse_choice(channel, name)
    return pixels


@overload
def nan_filled(pixels: Pixels) -> Pixels: ...
@overload
def nan_filled(pixels: Image) -> Image: ...
def nan_filled(pixels: Image) -> Image:
    """Pixels with background in place of what is not a number: with the median of the others.

    >>> nan_filled(np.array([1.0, np.nan, 3.0, 1.0])).tolist()
    [1.0, 1.0, 3.0, 1.0]
    """
    if isinstance(pixels, LazyImage):
        return pixels.with_nan_filled()
    if pixels.dtype.kind != "f" or not (missing := np.isnan(pixels)).any() or missing.all():
        return pixels
    return np.where(missing, np.median(pixels[~missing]), pixels).astype(pixels.dtype)


def refuse_choice(channel: int | None, name: str) -> None:
    """Raises a `DataError` where a channel of a grey image is chosen."""
    if channel is not None:
        raise DataError(f"{name} has one channel: leave --channel out.")


def apply_palette(index: Pixels, colours: Pixels) -> Pixels:
    """What indexed colours look like.

    A palette of which no channel falls with the index tints intensities, as microscopes' programs do, and gives grey.

    Args:
        index: whole numbers (H, W).
        colours: uint8 (n, 3).

    Returns:
        uint8 (H, W, 3 RGB), or (H, W) of a tint: its brightest channel.

    >>> apply_palette(np.array([[0, 2]]), np.array([[0, 0, 0], [0, 99, 0], [0, 255, 9]]))
    array([[  0, 255]])
    """
    tints = (np.diff(colours.astype(int), axis=0) >= 0).all()
    return (colours.max(1) if tints else colours)[index]


@contextmanager
def in_one_sentence(name: str) -> Iterator[None]:
    """Turns what decoders raise into a `DataError`.

    They report damage by many types: SyntaxError, struct.error, zlib.error, cv2.error, TiffFileError, ...
    """
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(
            f"{name} cannot be read ({first_line(error)}): the file is damaged, cut short or of an unknown format; "
            "copy or download it again, or save it as PNG or uncompressed TIFF if other programs open it."
        ) from None
