"""Annotated images, written in the layouts that `datamodules.layouts` reads.

Reading lies there because training reads. Writing takes the names from there and the content of the files from
`lightning_modules.formats`, which only the command line may bring together.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from datamodules.layouts.cellpose import NO_IMAGES
from datamodules.layouts.protocol import AnnotatedImage
from datamodules.reading import Pixels
from datamodules.sample import DataError, LabelImage, relabel
from lightning_modules.formats.files import coco, geojson, label_tiff, png
from lightning_modules.formats.folder import file_stem, join_coco, write_whole
from lightning_modules.instances import Instances, Prediction

Encoder = Callable[[AnnotatedImage, LabelImage], bytes]
"""From an image and its label image to a file's content."""


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


@dataclass(frozen=True)
class PairWriter:
    """A copy of each image's file, and a file of its objects, written last.

    Attributes:
        images: where the first lies, from the image's name and suffix.
        objects: where the second lies, from the name.
        encode: the second's content.
        not_ending: of names, since they mean something else in the layout.
        joined: name of a COCO file that holds the objects of all images.
    """

    images: str
    objects: str
    encode: Encoder
    not_ending: tuple[str, ...] = ()
    joined: str = ""

    def completing(self, name: str) -> Path:
        return Path(self.objects.format(name=name))

    def write(self, folder: Path, image: AnnotatedImage, pixels: Pixels, labels: LabelImage) -> None:
        if image.name.endswith(self.not_ending):
            raise DataError(
                f"The name {image.name} ends as no image's name may in this layout ({', '.join(self.not_ending)}): "
                "rename it, or choose another layout."
            )
        _write(folder / self.images.format(name=image.name, suffix=image.file.suffix), image.data())
        _write(folder / self.completing(image.name), self.encode(image, labels))

    def finish(self, folder: Path, names: Sequence[str]) -> None:
        if self.joined:
            join_coco([folder / self.completing(name) for name in names], folder / self.joined)


@dataclass(frozen=True)
class MaskFilesWriter:
    """DSB2018's layout: a folder for each image, which appears when it is complete, with a PNG for each object."""

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
        labels = relabel(labels)
        digits = len(str(labels.max()))
        for number in range(1, int(labels.max()) + 1):
            mask = (labels == number) * np.uint8(255)
            _write(building / "masks" / f"{number:0{digits}d}.png", png(mask))
        _write(building / "images" / f"{complete.name}.png", image.data() if is_png else png(pixels))
        building.replace(complete)

    def finish(self, folder: Path, names: Sequence[str]) -> None:
        """Nothing is shared here."""


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)


def _label_tiff(image: AnnotatedImage, labels: LabelImage) -> bytes:
    return label_tiff(labels)


def _geojson(image: AnnotatedImage, labels: LabelImage) -> bytes:
    return geojson(_prediction(image, labels), "annotation")


def _coco(image: AnnotatedImage, labels: LabelImage) -> bytes:
    return coco(_prediction(image, labels))


def _prediction(image: AnnotatedImage, labels: LabelImage) -> Prediction:
    """The objects, renumbered without gaps, as the writers of objects take them."""
    instances = Instances.from_labels(torch.from_numpy(relabel(labels)))
    return Prediction(f"{image.name}{image.file.suffix}", (labels.shape[0], labels.shape[1]), None, instances)


WRITERS: dict[str, LayoutWriter] = {
    "karyon": PairWriter("images/{name}{suffix}", "labels/{name}.tif", _label_tiff),
    "stardist": PairWriter("images/{name}{suffix}", "masks/{name}.tif", _label_tiff),
    "cellpose": PairWriter("{name}{suffix}", "{name}_masks.tif", _label_tiff, not_ending=NO_IMAGES),
    "dsb2018": MaskFilesWriter(),
    "coco": PairWriter("images/{name}{suffix}", "coco/{name}.json", _coco, joined="coco.json"),
    "qupath": PairWriter("images/{name}{suffix}", "geojson/{name}.geojson", _geojson),
}
