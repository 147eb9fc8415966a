"""The images of a file: their names and sizes, and what is known of them before their turn."""

import argparse
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from karyon.bundle import Card
from karyon.errors import DataError
from karyon.io.lazy_image import Image, LazyImage
from karyon.io.reading import Pages
from karyon.model import Answer
from karyon.planes import PixelSize

WAYS = ("channel", "background", "nan", "diameter", "pixel_size", "rotations", "precision")  # options of the objects


@dataclass(frozen=True)
class Ahead:
    """What is known of a file before its turn.

    Attributes:
        pages: of the file; None where all was done before.
        image: its only one.
        answer: of that, where it is small.
        error: what came instead.
    """

    pages: Pages | None = None
    image: Image | None = None
    answer: Answer | None = None
    error: Exception | None = None


def size_of(image: Image) -> tuple[int, int]:
    """Height and width, px."""
    return image.shape[0], image.shape[1]


def at_size(image: Image, size: tuple[int, ...], pixel_size: PixelSize | None) -> tuple[Image, dict[str, Any]]:
    """An image at the resolution that has the size of its objects, and what a `Prediction` says of that."""
    if not isinstance(image, LazyImage) or image.shape[:2] == size:
        return image, {"pixel_size": pixel_size}
    level = next(k for k in range(len(image.coarser) + 1) if image.at(k).shape[:2] == size)
    factor = image.factor(level)
    larger = pixel_size and replace(pixel_size, x=pixel_size.x * factor, y=pixel_size.y * factor)
    return image.at(level), {"pixel_size": larger, "factor": factor}


def page_name(name: str, pages: Pages, page: int) -> str:
    """The name of an image: its file's, and after it the number of its page where there are several.

    >>> page_name("a.tif", Pages((2, 6), "TZ", lambda page: page), 8)
    'a.tif/09'
    """
    return f"{name}/{page + 1:0{len(str(len(pages)))}}" if pages.shape else name


def made_of(path: Path, page: int, card: Card, options: argparse.Namespace) -> str:
    """What tells one image and one way to segment it from others, in words: a file that was changed is another one."""
    # An image of OME-Zarr is a folder.
    stats = [path.stat(), *(file.lstat() for file in path.rglob("*"))]
    content = str(path), page, len(stats), sum(stat.st_size for stat in stats), max(stat.st_mtime_ns for stat in stats)
    return repr((version("karyon"), card, content, *(getattr(options, key) for key in WAYS)))


def check_name(path: Path, name: str) -> None:
    """Raises a `DataError` where a file's name cannot be written into a table."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{path}: its name is not valid UTF-8: rename it.") from None
