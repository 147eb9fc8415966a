"""The layout of the Data Science Bowl 2018: a folder for each image, with a mask file for each nucleus."""

import os
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from datamodules.layouts.protocol import AnnotatedImage, Size
from datamodules.sample import DataError, LabelImage
from datamodules.sources import Archive, Entry, Folder, Source, read_entry_labels, scan_layout


@dataclass(frozen=True)
class MaskFiles:
    """A folder, or its zip archive, that holds a folder for each image.

    ::

        <ImageId>/images/<ImageId>.png
        <ImageId>/masks/*.png             one nucleus a file, whatever its name; ids follow the sorted names

    An image without masks is refused: nothing tells that it was looked at. Overlapping masks are refused too.
    `datamodules.dsb2018.DSB2018DataModule` reads this layout faster, from a cache.
    """

    def matches(self, root: Path) -> bool:
        if root.suffix.lower() == ".zip":
            return root.is_file()
        return any(path.stem == path.parent.parent.name for path in root.glob("*/images/*.png"))

    def images(self, root: Path) -> list[AnnotatedImage]:
        return [
            AnnotatedImage(entry.name, root / entry.image, partial(_data, root, entry), partial(_labels, root, entry))
            for entry in sorted(scan_layout(_open(root, os.getpid())), key=lambda entry: entry.name)
        ]


@lru_cache(maxsize=2)
def _open(root: Path, process: int) -> Source:
    """Opens a folder or an archive, for each process anew: where an open file is being read is not to be shared."""
    if root.is_dir():
        return Folder(root)
    if root.is_file():
        return Archive(root)
    raise DataError(f"There is no {root}: name a folder of images with their masks, or a zip archive of it.")


def _data(root: Path, entry: Entry) -> bytes:
    return _open(root, os.getpid()).read(entry.image)


def _labels(root: Path, entry: Entry, size: Size) -> LabelImage:
    return read_entry_labels(_open(root, os.getpid()), entry, size)
