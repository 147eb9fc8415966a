"""Lengths of the command line in px: how large a pixel is, and what is given in um."""

import argparse
from dataclasses import replace
from typing import Any

from karyon.errors import DataError
from karyon.io.pages import Pages
from karyon.planes import PixelSize


def pixel_size_of(pages: Pages, options: argparse.Namespace) -> PixelSize | None:
    """How large a pixel of a file is: what the file says, else what was given."""
    given: float | None = options.pixel_size
    size = pages.pixel_size or (PixelSize(given, given) if given else None)
    return replace(size, z=size.z or options.z_step) if size else None


def in_pixels(length: Any, pixel_size: PixelSize | None, source: str, option: str) -> Any:
    """A length in px, of one that may be in um, such as ``12um``; what is no length stays.

    Raises:
        DataError: the size of a pixel is not known.
    """
    if not str(length).endswith("um"):
        return length
    if pixel_size is None:
        raise DataError(
            f"{source} does not say how large a pixel is: name it by --pixel-size, in um, or give {option} in px."
        )
    return float(length.removesuffix("um")) / pixel_size.side
