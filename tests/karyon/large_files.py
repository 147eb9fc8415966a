"""Slides and pyramids as tests draw them."""

from pathlib import Path

import numpy as np
import tifffile

APERIO = "Aperio Image Library v12.0.15\r\n{} [0,0 {}] (256x256) JPEG/RGB Q=70|AppMag = 20|MPP = 0.4990"


def halved(pixels: np.ndarray) -> np.ndarray:
    """Half as large, by the means of four pixels."""
    height, width = (side // 2 * 2 for side in pixels.shape[:2])
    parts = pixels[:height, :width].astype(float)
    return ((parts[::2, ::2] + parts[1::2, ::2] + parts[::2, 1::2] + parts[1::2, 1::2]) / 4).astype(pixels.dtype)


def write_aperio(path: Path, pixels: np.ndarray, levels: int = 2) -> None:
    """A slide (H, W, 3) with a thumbnail, a label and a macro picture, in the order and with the tags of Aperio's."""
    with tifffile.TiffWriter(path, bigtiff=True) as writer:

        def write(part: np.ndarray, kind: str = "", **kwargs: object) -> None:
            description = APERIO.format(kind, f"{part.shape[1]}x{part.shape[0]}")
            writer.write(part, photometric="rgb", metadata=None, description=description, **kwargs)

        write(pixels, tile=(64, 64), compression="zlib")
        write(np.full((20, 30, 3), 9, np.uint8))
        for _ in range(levels - 1):
            pixels = halved(pixels)
            write(pixels, tile=(64, 64), compression="zlib")
        write(np.full((31, 33, 3), 99, np.uint8), "label 33x31", subfiletype=1)
        write(np.full((35, 55, 3), 77, np.uint8), "macro 55x35", subfiletype=9)


def write_pyramid(path: Path, pixels: np.ndarray, levels: int = 2, **kwargs: object) -> None:
    """A pyramid whose lower resolutions are SubIFDs: an OME-TIFF, by the name of the file, or a TIFF."""
    with tifffile.TiffWriter(path) as writer:
        options = {"tile": (64, 64), "compression": "zlib", "photometric": "minisblack"} | kwargs
        writer.write(pixels, subifds=levels - 1, **options)
        for _ in range(levels - 1):
            pixels = halved(pixels)
            writer.write(pixels, subfiletype=1, **options | {"metadata": None})
