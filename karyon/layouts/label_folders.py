"""Two folders, of images and of label images: Karyon's own layout, and StarDist's."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from karyon.errors import DataError
from karyon.io.reading import TIFF_SUFFIXES, read_bytes, read_labels
from karyon.labels import LabelImage
from karyon.layouts.files import composed, list_files, list_images
from karyon.layouts.protocol import AnnotatedImage, LayoutWriter, Size
from karyon.layouts.writing import PairWriter, label_file

# Lossless ones: JPEG would blur the numbers.
LABEL_SUFFIXES = {".png", ".bmp", *TIFF_SUFFIXES}


@dataclass(frozen=True)
class LabelFolders:
    """Pairs of an image and a label image with the same name, of any mix of sizes.

    ::

        images/    TIFF or PNG (JPEG, WebP, BMP too), 8 or 16 bit or float, grey, RGB or RGBA
        labels/    a label image each, same name, PNG or TIFF: 0 background, another number for each object

    Ids are kept. Objects cannot overlap; they may have holes and several parts, but an image whose only object has
    several parts is refused as a binary mask.

    Attributes:
        labels: name of the second folder: ``labels`` in Karyon, ``masks`` in StarDist.
    """

    labels: str = "labels"

    @property
    def writer(self) -> LayoutWriter:
        return PairWriter("images/{name}{suffix}", f"{self.labels}/{{name}}.tif", label_file)

    def matches(self, root: Path) -> bool:
        return (root / "images").is_dir() and (root / self.labels).is_dir()

    def images(self, root: Path) -> list[AnnotatedImage]:
        if not self.matches(root):
            raise DataError(
                f"{root} is not laid out as images/ and {self.labels}/: make both folders, with files of equal names."
            )
        folder = root / self.labels
        files = {composed(name): path for name, path in list_files(folder, LABEL_SUFFIXES).items()}
        images = []
        for name, path in list_images(root / "images").items():
            expected = folder / f"{name}.tif"
            found = files.get(composed(name))
            problem = "" if found else f"{path} has no label image: expected {expected} or .png."
            read = partial(read_sized_labels, found or expected)
            images.append(AnnotatedImage(name, path, partial(read_bytes, path), read, problem))
        return images


def read_sized_labels(path: Path, size: Size) -> LabelImage:
    """`karyon.io.reading.read_labels`, of a file that knows its size itself."""
    return read_labels(path)
