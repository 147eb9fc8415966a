"""What the layouts' writers share: a copy of each image's file, and a file of its objects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from karyon.errors import DataError
from karyon.instances import Instances, Prediction
from karyon.io.encoding import label_tiff
from karyon.io.reading import Pixels
from karyon.io.whole_files import write_whole
from karyon.labels import LabelImage, relabel
from karyon.layouts.protocol import AnnotatedImage

Encoder = Callable[[AnnotatedImage, LabelImage], bytes]
"""From an image and its label image to a file's content."""


@dataclass(frozen=True)
class PairWriter:
    """A copy of each image's file, and a file of its objects, written last.

    Attributes:
        images: where the first lies, from the image's name and suffix.
        objects: where the second lies, from the name.
        encode: the second's content.
        not_ending: of names, since they mean something else in the layout.
    """

    images: str
    objects: str
    encode: Encoder
    not_ending: tuple[str, ...] = ()

    def completing(self, name: str) -> Path:
        return Path(self.objects.format(name=name))

    def write(self, folder: Path, image: AnnotatedImage, pixels: Pixels, labels: LabelImage) -> None:
        if image.name.endswith(self.not_ending):
            raise DataError(
                f"The name {image.name} ends as no image's name may in this layout ({', '.join(self.not_ending)}): "
                "rename it, or choose another layout."
            )
        write_file(folder / self.images.format(name=image.name, suffix=image.file.suffix), image.data())
        write_file(folder / self.completing(image.name), self.encode(image, labels))

    def finish(self, folder: Path, names: Sequence[str]) -> None:
        """Nothing is shared here."""


def write_file(path: Path, data: bytes) -> None:
    """Writes a file, which appears when it is whole, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)


def label_file(image: AnnotatedImage, labels: LabelImage) -> bytes:
    """A label image as TIFF; ids are kept."""
    return label_tiff(labels)


def numbered(labels: LabelImage) -> NDArray[np.int64]:
    """A label image whose objects are numbered without gaps.

    Raises:
        DataError: something is not annotated, which outlines and masks cannot say.
    """
    if labels.min(initial=0) < 0:
        raise DataError(
            "Parts of the image are not annotated (-1), which this layout cannot say: choose karyon, stardist or "
            "cellpose."
        )
    return relabel(labels)


def prediction(image: AnnotatedImage, labels: LabelImage) -> Prediction:
    """The objects, renumbered without gaps, as `karyon.io.encoding` takes them."""
    instances = Instances.from_labels(numbered(labels))
    return Prediction(f"{image.name}{image.file.suffix}", (labels.shape[0], labels.shape[1]), None, instances)
