"""Corrected images as pairs to train on: images/ and labels/, which `fit` reads; see docs/own-annotations.md."""

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from karyon.errors import DataError
from karyon.inference.views import size_at
from karyon.instances import Instances, median_diameter
from karyon.io.encoding import label_tiff
from karyon.io.reading import check_labels, check_size, read_image
from karyon.io.whole_files import writing_to
from karyon.labels import LabelImage, relabel
from karyon.layouts.label_folders import LabelFolders
from karyon.layouts.writing import write_file
from karyon.preprocessing import Pixels, resize, resize_labels

NEAR = (2 / 3, 3 / 2)  # times the size that a model knows: no rescaling


def keep_pair(folder: Path, name: str, pixels: Pixels, labels: LabelImage) -> Path:
    """Writes an image and its label image; the labels of the same image, from before, are replaced.

    Args:
        folder: takes ``images/NAME.tif`` and ``labels/NAME.tif``.
        name: of the image; signs that file names cannot have become ``-``, and another image of that name is numbered.
        pixels: (H, W) or (H, W, 3), any dtype.
        labels: integers (H, W); 0 is background, -1 not annotated.

    Returns:
        the label image's file.

    Raises:
        DataError: image and labels differ in size, the labels are none to train on, or the folder cannot be written.
    """
    check_size(name, pixels, labels)
    if not (labels > 0).any():
        raise DataError(f"{name} has no objects: draw some, then keep it.")
    stem = re.sub(r"[^\w.()+ -]", "-", name).strip(". ") or "image"
    names = (stem, *(f"{stem}-{k}" for k in range(2, 10_000)))
    stem = next(name for name in names if _is_free(folder / "images" / f"{name}.tif", pixels))
    image, path = io.BytesIO(), folder / "labels" / f"{stem}.tif"
    tifffile.imwrite(image, pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack", compression="zlib")
    with writing_to(folder):
        write_file(folder / "images" / f"{stem}.tif", image.getvalue())
        write_file(path, label_tiff(check_labels(labels, name)))
    return path


def _is_free(path: Path, pixels: Pixels) -> bool:
    """Whether there is no file, or one of the same image."""
    return not path.exists() or np.array_equal(read_image(path), pixels)


@dataclass(frozen=True)
class Pairs:
    """A folder of pairs.

    Attributes:
        folder: has them.
        count: how many there are.
        diameter: median of the objects', px.
    """

    folder: Path
    count: int
    diameter: float


def find_pairs(folder: Path) -> Pairs:
    """Looks through a folder of pairs.

    Raises:
        DataError: it holds none, or one that cannot be used.
    """
    images = LabelFolders().images(folder)
    if not images:
        raise DataError(f"{folder} holds no pairs: correct an image, and keep it.")
    sizes = [median_diameter(Instances.from_labels(relabel(np.maximum(image.read()[1], 0)))) for image in images]
    return Pairs(folder, len(images), float(np.nanmedian(sizes)))


def at_size_of_model(pairs: Pairs, diameter: float | None, out: Path) -> Path:
    """A folder of the pairs at the scale at which the model knows its objects; the pairs' own where they are near.

    Args:
        pairs: to train on.
        diameter: of the objects that the model knows, px; None where it does not say.
        out: takes the rescaled pairs.
    """
    scale = (diameter or pairs.diameter) / pairs.diameter
    if NEAR[0] <= scale <= NEAR[1]:
        return pairs.folder
    for image in LabelFolders().images(pairs.folder):
        pixels, labels = image.read()
        size = size_at(scale, *labels.shape)
        smaller = resize(np.atleast_3d(pixels).astype(np.float32), size).squeeze()
        keep_pair(
            out,
            image.name,
            np.rint(smaller).astype(pixels.dtype) if pixels.dtype.kind in "iu" else smaller,
            resize_labels(labels, size),
        )
    return out
