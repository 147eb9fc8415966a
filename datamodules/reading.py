"""Reads and writes single images and label images, and says in one sentence what is wrong with a file."""

import hashlib
import io
import logging
import math
import struct
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from datamodules.sample import DataError, LabelImage, first_line

TIFF_SUFFIXES = {".tif", ".tiff"}
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # of TIFF and BigTIFF
IMAGE_SUFFIXES = {".png", ".webp", ".jpg", ".jpeg", ".bmp", *TIFF_SUFFIXES}

Pixels = NDArray[Any]

# Pillow takes a large microscope slide for an attack.
Image.MAX_IMAGE_PIXELS = None
MOST_PIXELS, LONGEST_SIDE = 2**30, 2**20  # of OpenCV
IN_MEMORY = 2**31  # bytes; larger TIFFs are unpacked into a temporary file

# What is wrong with a file is said in a sentence that names it, and in no other way.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode_image(data: bytes, name: str) -> Pixels:
    """Decodes an image file's bytes without changing a value.

    Args:
        data: the whole file.
        name: what to call the file in an error.

    Returns:
        (H, W) or (H, W, 3 RGB), any dtype; an alpha channel is left out.

    Raises:
        DataError: the file is empty, cut short, damaged, or no two-dimensional image of one, three or four channels.
    """
    if not data:
        raise DataError(f"{name} is empty (0 bytes): copy or download it again.")
    try:
        # Whatever the suffix says.
        pixels = _decode_tiff(data) if data.startswith(TIFF_SIGNATURES) else _decode_other(data, name)
    except (DataError, MemoryError):
        raise
    # The decoders report damage by many types (SyntaxError, struct.error, zlib.error, cv2.error, TiffFileError).
    except Exception as error:
        reason = first_line(error)
        raise DataError(
            f"{name} cannot be read ({reason}): the file is damaged, cut short or of an unknown kind; copy it again, "
            "or save it as PNG if other programs open it."
        ) from None
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = pixels[..., :3]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise DataError(
            f"{name} has the shape {pixels.shape}: expected one grey, RGB or RGBA image; save each plane as a file."
        )
    return pixels


def _decode_tiff(data: bytes) -> Pixels:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        series = file.series[0]
        pixels = read_series(file, series)
    # Planar RGB is stored channel first; a stack of three planes is no colour image.
    planar = series.axes in ("SYX", "CYX") and series.shape[0] in (3, 4)
    return np.moveaxis(pixels, 0, -1) if planar else pixels


def read_series(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Pixels:
    """Reads the pixels of a TIFF's series, in the series' shape.

    Raises:
        ValueError: its compression is known to none of the libraries.
    """
    try:
        return np.asarray(series.asarray(out="memmap" if series.nbytes > IN_MEMORY else None))
    except (ValueError, ImportError) as error:
        # Without a further package tifffile knows few compressions; libtiff, in Pillow and OpenCV, knows LZW and JPEG.
        if isinstance(error, ValueError) and "imagecodecs" not in str(error):
            raise
    file.filehandle.seek(0)
    data = file.filehandle.read()
    plane = series.shape[-3:] if series.axes.endswith("YXS") else series.shape[-2:]
    for decode in (_pillow_planes, _opencv_planes):
        planes = decode(data, series)
        fit = [pixels.shape == plane and pixels.dtype.name == series.dtype.name for pixels in planes]
        if all(fit) and len(fit) * math.prod(plane) == math.prod(series.shape):
            return np.stack(planes).reshape(series.shape)
    compression = tifffile.COMPRESSION(series.keyframe.compression).name
    raise ValueError(f"it is compressed by {compression}, which is not known here")


def _pillow_planes(data: bytes, series: tifffile.TiffPageSeries) -> list[Pixels]:
    planes = []
    try:
        with Image.open(io.BytesIO(data)) as image:
            for page in series.pages:
                if page is not None:
                    image.seek(page.index)
                    planes.append(np.asarray(image))
    except UnidentifiedImageError:
        return []
    # Pillow alone turns values around where 0 is white, and up to 8 bit.
    inverted = series.keyframe.photometric == tifffile.PHOTOMETRIC.MINISWHITE and series.dtype.itemsize == 1
    return [np.invert(pixels) for pixels in planes] if inverted else planes


def _opencv_planes(data: bytes, series: tifffile.TiffPageSeries) -> list[Pixels]:
    # For what Pillow does not know, such as colours of 16 bit. Of what is damaged OpenCV would keep what it can where
    # planes have 8 bit or are several.
    single = len(series.pages) == 1 and series.dtype.itemsize > 1
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if single else None
    return [] if pixels is None else [_to_rgb(pixels)]


def _decode_other(data: bytes, name: str) -> Pixels:
    try:
        # OpenCV 4 returns the readable part of a cut file as if nothing had happened; Pillow does not.
        with Image.open(io.BytesIO(data)) as image:
            if math.prod(image.size) > MOST_PIXELS or max(image.size) > LONGEST_SIDE:
                raise DataError(
                    f"{name} has {image.height} x {image.width} px, more than can be read of this kind: save it as "
                    "TIFF, or cut it into parts."
                )
            image.verify()
            if image.format != "PNG":
                Image.open(io.BytesIO(data)).load()
    except UnidentifiedImageError:
        raise ValueError("not an image of a known format") from None
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("the pixel data does not decode")
    return _to_rgb(pixels)


def _to_rgb(pixels: Pixels) -> Pixels:
    """Puts OpenCV's colours in order."""
    if pixels.ndim == 3 and pixels.shape[2] >= 3:
        pixels = pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]
    return np.asarray(pixels)


def read_image(path: Path) -> Pixels:
    """Reads an image file; see `decode_image`.

    Raises:
        DataError: the file is missing, may not be read, or is damaged.
    """
    return decode_image(read_bytes(path), str(path))


def decode_stack(data: bytes, name: str) -> Pixels:
    """Decodes a TIFF of several grey planes, such as the sections of a volume.

    Args:
        data: the whole file.
        name: what to call the file in an error.

    Returns:
        (N, H, W), any dtype.

    Raises:
        DataError: the file is empty, cut short, damaged, or no stack of grey planes of one size.
    """
    if not data:
        raise DataError(f"{name} is empty (0 bytes): copy or download it again.")
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            check_whole(file)
            stack = read_series(file, file.series[0])
            count, axes = len(file.series), file.series[0].axes
    # As in `decode_image`.
    except Exception as error:
        reason = first_line(error)
        raise DataError(
            f"{name} cannot be read as a TIFF stack ({reason}): copy or download it again, or save it without "
            "compression if other programs open it."
        ) from None
    if stack.ndim == 2:
        stack = stack[None]
    # S: the samples of a colour.
    if stack.ndim != 3 or count > 1 or "S" in axes:
        raise DataError(
            f"{name} has {count} series, the first of shape {stack.shape} and axes {axes}: expected one stack of grey "
            "planes of equal size (N, H, W); save it as one."
        )
    return stack


def check_whole(file: tifffile.TiffFile) -> None:
    """Raises a ValueError for a TIFF whose last pages are missing."""
    # Each plane points to the next, the last to none. Tifffile only logs a pointer that leads out of the file.
    file.filehandle.seek(file.pages.next_page_offset or 0)
    (following,) = struct.unpack(file.tiff.offsetformat, file.filehandle.read(file.tiff.offsetsize))
    if following:
        raise ValueError("its last planes are missing")


def read_bytes(path: Path) -> bytes:
    """A file's content, or a `DataError` that says why it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check the path and who may read it.") from None


def read_labels(path: Path) -> LabelImage:
    """Reads a label image, refusing what is not one.

    Returns:
        int32 (H, W): 0 background, a number for each object, gaps allowed.

    Raises:
        DataError: the file is damaged, in colour, not of whole numbers from 0, or a binary mask.
    """
    return check_labels(read_image(path), str(path))


def check_labels(labels: Pixels, name: str) -> LabelImage:
    """What `read_labels` says of an array; ``name`` is what to call it in an error."""
    if labels.ndim != 2:
        raise DataError(f"{name} is a colour image, not a label image: save one number for each object in one channel.")
    if not np.array_equal(labels, np.floor(labels)) or labels.min() < 0 or labels.max() >= 2**31:
        raise DataError(f"{name} holds values that are no object numbers: expected whole numbers, 0 for background.")
    labels = labels.astype(np.int32)
    if labels.max() > 0 and len(np.unique(labels)) == 2:
        regions = cv2.connectedComponents((labels > 0).astype(np.uint8), connectivity=8)[0] - 1
        if regions > 1:
            raise DataError(
                f"{name} is a binary mask, not a label image: its one value {labels.max()} covers {regions} separate "
                "regions; give every object a number of its own (skimage.measure.label does)."
            )
    return labels


def check_size(name: str, pixels: Pixels, labels: LabelImage) -> None:
    """Raises a `DataError` where a label image has another size than its image."""
    if labels.shape != pixels.shape[:2]:
        raise DataError(
            f"{name}: the label image is {labels.shape[0]} x {labels.shape[1]} px, the image "
            f"{pixels.shape[0]} x {pixels.shape[1]}: export them at one size."
        )


def read_cached(path: Path) -> Pixels:
    """Reads a file of the label-image cache, whose content was verified when it was written: no checks, for speed."""
    try:
        if path.suffix in TIFF_SUFFIXES:
            return np.asarray(tifffile.imread(path))
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except (OSError, ValueError, tifffile.TiffFileError, cv2.error):
        pixels = None
    if pixels is None:
        raise DataError(f"{path} is missing or damaged: delete its folder, and this cache is built again.")
    return np.asarray(pixels)


def pixel_digest(pixels: Pixels) -> str:
    """SHA-256 of an array's shape, dtype and values, whatever file format they came in.

    >>> pixel_digest(np.zeros((2, 3), np.uint8))[:16]
    'eeead995c675e7a2'
    """
    header = f"{pixels.shape}{pixels.dtype.newbyteorder('<').str}".encode()
    little_endian = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
    return hashlib.sha256(header + little_endian.tobytes()).hexdigest()
