"""Regions of the pages of a TIFF, of which no more tiles or strips are decoded than they touch."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from threading import RLock
from typing import Any

import numpy as np
import tifffile

from karyon.io.lazy_image import Pixels, Region, assemble

LARGEST_PART = 2**26  # bytes; of a page in larger parts none can be read without the most of it
KEPT = 2**26  # bytes of decoded parts that neighbouring regions share
READING = RLock()

Page = tifffile.TiffPage | tifffile.TiffFrame


def can_be_cut(page: tifffile.TiffPage) -> bool:
    """Whether parts of a page can be read without the rest."""
    if page.dtype is None or page.axes not in ("YX", "YXS", "SYX"):
        return False
    mapped = page.is_memmappable and page.parent.filehandle.is_file
    return mapped or math.prod(page.chunks) * page.dtype.itemsize <= LARGEST_PART


def region_reader(page: Page, keyframe: tifffile.TiffPage) -> Callable[[Region], Pixels]:
    """What reads regions of a page, (h, w) or (h, w, S), as they are stored.

    Args:
        page: of a file that is open now; later, only while it is read from.
        keyframe: has what the pages of its series share; `can_be_cut`.
    """
    handle = page.parent.filehandle
    assert keyframe.dtype is not None
    if keyframe.is_memmappable and handle.is_file:
        return lambda region: _mapped(page, keyframe, region)
    separate = keyframe.axes.startswith("S")
    samples = keyframe.samplesperpixel if "S" in keyframe.axes else 1
    height, width = keyframe.imagelength, keyframe.imagewidth
    tall, wide = (keyframe.tilelength, keyframe.tilewidth) if keyframe.is_tiled else (keyframe.rowsperstrip, width)
    tall = min(tall, height)
    across, down = -(-width // wide), -(-height // tall)
    per_part = tall * wide * samples * keyframe.dtype.itemsize
    # As `TiffPage.segments` calls the decoder, which looks into the file before it is there.
    decode = keyframe.decode
    is_jpeg = keyframe.compression in {6, 7, 34892, 33007}
    jpeg: dict[str, Any] = {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader} if is_jpeg else {}

    @lru_cache(maxsize=max(4, KEPT // per_part))
    def part(index: int) -> Pixels | None:
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if not count:
            return None
        with reopened(handle):
            handle.seek(offset)
            data = handle.read(count)
        if len(data) < count:
            raise ValueError("its pixels lie beyond its end")
        decoded, _, _ = decode(data, index, **jpeg)
        return None if decoded is None else decoded[0]

    def part_at(plane: int, y: int, x: int) -> Pixels | None:
        return part((plane * down + y) * across + x)

    def read(region: Region) -> Pixels:
        size = [part.stop - part.start for part in region]
        out = np.full((*size, samples), keyframe.nodata, keyframe.dtype)
        for plane in range(samples) if separate else range(1):
            target = out[..., plane : plane + 1] if separate else out
            assemble(target, region, (tall, wide), partial(part_at, plane))
        return out if "S" in keyframe.axes else out[..., 0]

    return read


def _mapped(page: Page, keyframe: tifffile.TiffPage, region: Region) -> Pixels:
    """A region of a page that lies in the file as it does in memory."""
    handle = page.parent.filehandle
    with reopened(handle):
        whole = handle.memmap_array(
            f"{page.parent.byteorder}{np.dtype(keyframe.dtype).char}", keyframe.shape, page.dataoffsets[0]
        )
        pixels = np.moveaxis(whole, 0, -1) if keyframe.axes == "SYX" else whole
        return np.array(pixels[region], keyframe.dtype)


@contextmanager
def reopened(handle: tifffile.FileHandle) -> Iterator[None]:
    """A file is open only while it is read from, by one thread, so that nobody has to close it."""
    with READING:
        handle.open()
        try:
            yield
        finally:
            handle.close()
