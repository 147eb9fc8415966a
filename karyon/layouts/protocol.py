"""What a layout owes those who read and write annotated images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from karyon.errors import DataError
from karyon.io.reading import Pixels, check_size, read_image
from karyon.labels import LabelImage

Size = tuple[int, int]
"""Height and width, px."""


@dataclass(frozen=True)
class AnnotatedImage:
    """One image, and what is annotated in it.

    Attributes:
        name: its path below the layout's folder of images, with ``/`` and without suffix; unique.
        file: the image's file, for errors; its suffix tells its format.
        data: reads the file.
        labels: reads the label image, integers (H, W), of an image of that size.
        problem: a sentence, where the names of the files alone tell that it cannot be used.
    """

    name: str
    file: Path
    data: Callable[[], bytes]
    labels: Callable[[Size], LabelImage]
    problem: str = ""

    def pixels(self) -> Pixels:
        """The original pixels, (H, W) or (H, W, 3 RGB), any dtype; see `karyon.io.reading.read_image`."""
        return read_image(self.data(), str(self.file))

    def read(self) -> tuple[Pixels, LabelImage]:
        """The original pixels and the label image.

        Raises:
            DataError: a file is missing or damaged, or what is annotated is not a label image of that size.
        """
        if self.problem:
            raise DataError(self.problem)
        pixels = self.pixels()
        labels = self.labels(pixels.shape[:2])
        check_size(str(self.file), pixels, labels)
        return pixels, labels


class LayoutWriter(Protocol):
    """Writes annotated images in one layout."""

    def completing(self, name: str) -> Path:
        """What appears in the layout's folder when the image of that name is complete."""
        ...

    def write(self, folder: Path, image: AnnotatedImage, pixels: Pixels, labels: LabelImage) -> None:
        """Writes one image, of which pixels and label image have been read.

        Raises:
            DataError: the layout cannot hold it.
        """
        ...

    def finish(self, folder: Path, names: Sequence[str]) -> None:
        """Writes what all images share, after the last of them; the names are those of complete images."""
        ...


class Layout(Protocol):
    """A way to lay annotated images out in a folder."""

    @property
    def writer(self) -> LayoutWriter:
        """Writes this layout."""
        ...

    def matches(self, root: Path) -> bool:
        """Whether a folder, or a file, looks as if it were laid out so."""
        ...

    def images(self, root: Path) -> list[AnnotatedImage]:
        """Lists the images, by name.

        Raises:
            DataError: it is not laid out so, or holds no image.
        """
        ...


@dataclass(frozen=True)
class Item:
    """One image of a data set and how to read it.

    Attributes:
        name: identifier.
        image_type: image type, ``""`` where unknown.
        read: returns the original pixels and the label image (None where there is none).
        files: of the image and, where there is one, of its label image, for reports; () where they have none.
    """

    name: str
    image_type: str
    read: Callable[[], tuple[Pixels, LabelImage | None]]
    files: tuple[Path, ...] = ()
