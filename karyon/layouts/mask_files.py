"""The layout of the Data Science Bowl 2018: a folder for each image, with a mask file for each nucleus."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from karyon.errors import DataError
from karyon.io.encoding import png
from karyon.io.file_names import file_stem
from karyon.io.reading import Pixels
from karyon.labels import LabelImage
from karyon.layouts.dsb2018_files import Archive, Entry, Folder, Source, read_entry_labels, scan_layout
from karyon.layouts.protocol import AnnotatedImage, LayoutWriter, Size
from karyon.layouts.writing import numbered, write_file


@dataclass(frozen=True)
class MaskFiles:
    """A folder, or its zip archive, that holds a folder for each image.

    ::

        <ImageId>/images/<ImageId>.png
        <ImageId>/masks/*.png             one nucleus a file, whatever its name; ids follow the sorted names

    An image without masks is refused: nothing tells that it was looked at. Overlapping masks are refused too.
    `datamodules.dsb2018.DSB2018DataModule` reads this layout faster, from a cache.
    """

    @property
    def writer(self) -> LayoutWriter:
        return _MaskFilesWriter()

    def matches(self, root: Path) -> bool:
        if root.suffix.lower() == ".zip":
            return root.is_file()
        return any(path.stem == path.parent.parent.name for path in root.glob("*/images/*.png"))

    def images(self, root: Path) -> list[AnnotatedImage]:
        return [
            AnnotatedImage(entry.name, root / entry.image, partial(_data, root, entry), partial(_labels, root, entry))
            for entry in sorted(scan_layout(_open(root, os.getpid())), key=lambda entry: entry.name)
        ]


class _MaskFilesWriter:
    """A folder for each image, which appears when it is complete, with a PNG for each object."""

    def completing(self, name: str) -> Path:
        return Path(file_stem(name))

    def write(self, folder: Path, image: AnnotatedImage, pixels: Pixels, labels: LabelImage) -> None:
        if not labels.any():
            raise DataError(
                "The image holds no object, which this layout cannot tell from an image that nobody has annotated: "
                "choose another layout."
            )
        is_png = image.file.suffix.lower() == ".png"
        if not is_png and pixels.dtype not in (np.uint8, np.uint16):
            raise DataError(
                f"The image has {pixels.dtype} pixels, which PNG cannot hold: choose another layout, or save it "
                "with 8 or 16 bit."
            )
        complete = folder / self.completing(image.name)
        # One that was left by a process that was killed may hold other masks.
        building = folder / f"{complete.name}.writing"
        shutil.rmtree(building, ignore_errors=True)
        labels = numbered(labels)
        digits = len(str(labels.max()))
        for number in range(1, int(labels.max()) + 1):
            mask = (labels == number) * np.uint8(255)
            write_file(building / "masks" / f"{number:0{digits}d}.png", png(mask))
        write_file(building / "images" / f"{complete.name}.png", image.data() if is_png else png(pixels))
        building.replace(complete)

    def finish(self, folder: Path, names: Sequence[str]) -> None:
        """Nothing is shared here."""


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
