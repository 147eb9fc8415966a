"""Reads single images, stacks and label images, and says in one sentence what is wrong with a file."""

import csv
import hashlib
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from karyon.errors import DataError
from karyon.io.lazy_image import LazyImage
from karyon.io.microscopes import READERS, open_microscope
from karyon.io.ome_zarr import metadata, open_ome_zarr
from karyon.io.other_formats import refuse_unread
from karyon.io.pages import Pages as Pages
from karyon.io.pages import Pixels as Pixels
from karyon.io.pages import apply_palette, in_one_sentence, pick
from karyon.io.room import check_bound, check_room
from karyon.io.tiff import TIFF_SIGNATURES, open_tiff
from karyon.io.tiff import TIFF_SUFFIXES as TIFF_SUFFIXES
from karyon.labels import LabelImage

# Slides and others of the second line are TIFF inside.
IMAGE_SUFFIXES = {
    *(".png", ".webp", ".jpg", ".jpeg", ".jp2", ".bmp", *TIFF_SUFFIXES),
    *(".svs", ".ndpi", ".scn", ".qptiff", ".lsm", ".btf", ".tf8"),
    *READERS,
}
# Of Pillow's. Others it has opened by other programs (EPS), or knows how large they are once they are decoded (GIF).
FORMATS = ("PNG", "JPEG", "JPEG2000", "WEBP", "BMP")
ANIMATED = {"PNG", "WEBP"}  # formats of several images that belong together; a JPEG's are variants of one

# Pillow takes a large microscope slide for an attack.
Image.MAX_IMAGE_PIXELS = None
PNG_DEPTH = 24  # place of the number of bits a value
EXPANSION = {"WEBP": math.inf, "JPEG2000": math.inf, "PNG": 1032}  # bytes that one can become, at a bit a pixel
OTHERS = 128  # JPEG has at least one bit for 64 pixels, BMP a byte
LARGEST, USUAL = 2**29, 32  # bytes of pixels, for each byte of the file, that none but a bomb has in these formats

# What is wrong with a file is said in a sentence that names it, and in no other way.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
warnings.filterwarnings("ignore", module=r"PIL\.")


def open_image(
    source: Path | bytes, name: str = "", channel: int | Sequence[int] | None = None, raw: bool = False
) -> Pages:
    """Opens an image file of any number of pages: what a viewer shows is what every command sees.

    Where 0 is stored as white, values are turned around, so that bright is bright. Palettes and CMYK become RGB (a
    palette that only tints, growing brighter with the index, becomes grey), planar RGB is put in order, transparency is
    left out; colour profiles and orientation tags are not applied. Each page, time, depth or frame of
    an animation is an image. Channels of a microscope (axis C, or samples that are not declared to be colours) are no
    colours, even if they are three: one has to be chosen, or three as colours, or saved as a file. Of a slide or a
    pyramid, the image in full resolution is taken.

    Args:
        source: a TIFF, OME-TIFF, PNG, JPEG, WebP or BMP file, whatever its suffix says, or its content; a CZI, ND2 or
            LIF file, by its suffix; or an image of OME-Zarr.
        name: what to call it in an error; the file's path by default.
        channel: the one to take of an image of several, from 1, or three as red, green and blue; colour images need
            none.
        raw: whether to give the numbers as they are stored, not what they look like, as of label images.

    Raises:
        DataError: the file is missing, damaged or cut short, holds separate images, or several channels of which none
            is chosen.
    """
    name = name or _path(source)
    if isinstance(channel, Sequence):
        return _composed([open_image(source, name, each, raw) for each in channel])
    if isinstance(source, Path):
        refuse_unread(source)
        if source.is_dir() and metadata(source) is not None:
            return open_ome_zarr(source, name, channel)
        if source.suffix.lower() in READERS and read_bytes(source, 1):
            return open_microscope(source, name, channel)
    start = source[:4] if isinstance(source, bytes) else read_bytes(source, 4)
    if not start:
        raise DataError(f"{name} is empty (0 bytes): copy or download it again.")
    with in_one_sentence(name):
        if start in TIFF_SIGNATURES:
            return open_tiff(source, name, channel, raw)
        return _open_other(source if isinstance(source, bytes) else read_bytes(source), name, channel, raw)


def open_page(path: Path, channel: int | Sequence[int] | None, page: int) -> Pixels | LazyImage:
    """One of the images of a file, counted from 0; see `open_image`."""
    return open_image(path, channel=channel).open(page)


def _composed(channels: Sequence[Pages]) -> Pages:
    """Images of which each channel was opened by itself."""
    first = channels[0]
    taken = first.channel and (-1, first.channel[1])
    return replace(first, read=lambda k: np.dstack([pages.read(k) for pages in channels]), channel=taken, lazy=None)


def read_image(source: Path | bytes, name: str = "", raw: bool = False) -> Pixels:
    """Reads the only image of a file; see `open_image`.

    Returns:
        (H, W) or (H, W, 3 RGB), any dtype.

    Raises:
        DataError: as `open_image`; or the file holds several images.
    """
    pages = open_image(source, name, raw=raw)
    if len(pages) > 1:
        shape = " x ".join(map(str, pages.shape))
        raise DataError(
            f"{name or _path(source)} holds {shape} images (axes {pages.axes}): expected one; save each as a file."
        )
    return pages.read(0)


def read_stack(source: Path | bytes, name: str = "") -> Pixels:
    """Reads a file of several grey planes, such as the sections of a volume; see `open_image`.

    Returns:
        (N, H, W), any dtype.

    Raises:
        DataError: as `open_image`; or the file is not one stack of grey planes.
    """
    pages = open_image(source, name)
    first = pages.read(0)
    if len(pages.shape) > 1 or first.ndim != 2:
        shape = (*pages.shape, *first.shape)
        raise DataError(
            f"{name or _path(source)} has the shape {shape}: expected one stack of grey planes (N, H, W); save it as "
            "one."
        )
    check_bound(name or _path(source), len(pages) * first.nbytes)
    return np.stack([first, *(pages.read(k) for k in range(1, len(pages)))])


def _open_other(data: bytes, name: str, channel: int | None, raw: bool) -> Pages:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError("not an image of a known format") from None
    size = math.prod(image.size)
    check_room(name, size / 8, len(data), EXPANSION.get(str(image.format), OTHERS), unpacked=False)
    shown = f"{name}, {image.height} x {image.width} px,"
    check_bound(shown, size * len(image.getbands()), max(LARGEST, USUAL * len(data)))
    frames = getattr(image, "n_frames", 1) if image.format in ANIMATED else 1
    if image.format == "PNG":
        image.verify()
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    if frames == 1:
        pixels = pick(_decode(data, image, raw), channel, name)
        return Pages((), "", lambda _: pixels)

    def read(k: int) -> Pixels:
        with in_one_sentence(name):
            image.seek(k)
            return pick(np.array(image.convert("RGB")), channel, name)

    return Pages((frames,), "T", read)


def _decode(data: bytes, image: Image.Image, raw: bool) -> Pixels:
    """Decodes the only image of a file that Pillow has opened, and verified if it is a PNG."""
    if image.mode == "P":
        index, colours = np.array(image), np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        return index if raw else apply_palette(index, colours)
    grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I")
    # Pillow makes 8 of the 16 bit of colours, and white of whatever is brighter than 255.
    if image.format == "JPEG2000":
        pixels = imagecodecs.jpeg2k_decode(data)
    elif image.format == "PNG" and data[PNG_DEPTH] == 16:
        pixels = imagecodecs.png_decode(data)
    else:
        return np.array(image.convert("L" if grey else "RGB"))
    if pixels.ndim == 2:
        return pixels
    return pixels[..., 0] if grey else pixels[..., :3]


def _path(source: Path | bytes) -> str:
    return "the image" if isinstance(source, bytes) else str(source)


def read_bytes(path: Path, count: int = -1) -> bytes:
    """A file's content, or so many bytes of its beginning, or a `DataError` that says why it cannot be read."""
    try:
        # A pipe may never end, nor a device.
        if not (path.is_file() or path.is_dir()) and path.exists():
            raise DataError(f"{path} is a pipe or a device: save what it gives as a file.")
        with path.open("rb") as file:
            if count < 0:
                check_bound(str(path), path.stat().st_size)
            return file.read(count)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check the path and who may read it.") from None


def read_table(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV table, as programs and spreadsheets of any country write it.

    Raises:
        DataError: it cannot be read.
        ValueError, csv.Error: it is no table.
    """
    # Excel marks its tables by three bytes at the beginning.
    text = read_bytes(path).decode("utf-8-sig")
    header = text.partition("\n")[0]
    return csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), restval="")


def read_labels(path: Path) -> LabelImage:
    """Reads a label image, refusing what is not one; of indexed colours, the indices are the labels.

    Returns:
        int32 (H, W): 0 background, a number for each object, gaps allowed; -1 where nothing is annotated.

    Raises:
        DataError: the file is damaged, in colour, not of whole numbers from -1, a binary mask, or -1 throughout.
    """
    return check_labels(read_image(path, raw=True), str(path))


def check_labels(labels: Pixels, name: str) -> LabelImage:
    """What `read_labels` says of an array; ``name`` is what to call it in an error."""
    if labels.ndim != 2:
        raise DataError(f"{name} is a colour image, not a label image: save one number for each object in one channel.")
    is_real = labels.dtype.kind in "buif"
    if not is_real or not np.array_equal(labels, np.floor(labels)) or labels.min() < -1 or labels.max() >= 2**31:
        raise DataError(
            f"{name} holds values that are not object numbers: expected whole numbers, 0 for background, and -1 for "
            "what is not annotated."
        )
    labels = labels.astype(np.int32)
    if labels.max() < 0:
        raise DataError(f"{name} is -1 throughout, so that nothing is annotated: leave the image out.")
    if labels.max() > 0 and len(np.unique(np.maximum(labels, 0))) == 2:
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
