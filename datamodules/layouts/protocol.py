"""What a layout owes those who read annotated images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from datamodules.reading import Pixels, check_size, decode_image
from datamodules.sample import DataError, LabelImage

Size = tuple[int, int]
"""Height and width, px."""


@dataclass(frozen=True)
class AnnotatedImage:
    """One image, and what is annotated in it.

    Attributes:
        name: its path below the layout's folder of images, with ``/`` and without suffix; unique.
        file: the image's file, for errors; its suffix tells its kind.
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
        """The original pixels, (H, W) or (H, W, 3 RGB), any dtype; see `datamodules.reading.decode_image`."""
        return decode_image(self.data(), str(self.file))

    def read(self) -> tuple[Pixels, LabelImage]:
        """The original pixels and the label image.

        Raises:
            DataError: a file is missing or damaged, or what is annotated is no label image of that size.
        """
        if self.problem:
            raise DataError(self.problem)
        pixels = self.pixels()
        labels = self.labels(pixels.shape[:2])
        check_size(str(self.file), pixels, labels)
        return pixels, labels


class Layout(Protocol):
    """A way to lay annotated images out in a folder."""

    def matches(self, root: Path) -> bool:
        """Whether a folder, or a file, looks as if it were laid out so."""
        ...

    def images(self, root: Path) -> list[AnnotatedImage]:
        """Lists the images, by name.

        Raises:
            DataError: it is not laid out so, or holds no image.
        """
        ...
