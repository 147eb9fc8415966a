"""Cellpose's layout: the masks of an image beside it, under its name and ``_masks``."""

import pickle
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from karyon.errors import DataError, first_line
from karyon.io.reading import IMAGE_SUFFIXES, check_labels, read_bytes
from karyon.labels import LabelImage
from karyon.layouts.files import list_files
from karyon.layouts.label_folders import read_sized_labels
from karyon.layouts.protocol import AnnotatedImage, LayoutWriter, Size
from karyon.layouts.writing import PairWriter, label_file

# What Cellpose writes beside an image, the first of them being looked for before the others.
MASKS = tuple(f"{kind}{suffix}" for kind in ("_masks", "_cp_masks") for suffix in (".tif", ".tiff", ".png"))
SEG = "_seg.npy"
NO_IMAGES = ("_masks", "_flows", "_flows_0", "_flows_1", "_flows_2", "_cellprob", "_cp_output")
# Of images whose masks go without it, as in Cellpose's own data.
IMG = "_img"
OME = ".ome"


@dataclass(frozen=True)
class Cellpose:
    """Images and their label images side by side, in one folder or below it.

    ::

        a.tif, a_masks.tif        or _masks.png, _cp_masks.tif, _cp_masks.png
        b.ome.tif, b_masks.tif
        b.png, b_seg.npy          what the GUI saves; looked at only where there are no masks
        c_img.png, c_masks.png

    Ids are kept. Objects cannot overlap, as in `karyon.layouts.label_folders.LabelFolders`. ``_seg.npy`` is a
    pickle; it is read by a reader that makes arrays and plain values and nothing else, and a file that asks for more is
    refused.

    Source: https://cellpose.readthedocs.io/en/latest/train.html, and get_image_files in cellpose/io.py
    """

    @property
    def writer(self) -> LayoutWriter:
        return PairWriter("{name}{suffix}", "{name}_masks.tif", label_file, not_ending=NO_IMAGES)

    def matches(self, root: Path) -> bool:
        return any(_has_image(path) for path in root.rglob("*") if path.name.endswith((*MASKS, SEG)))

    def images(self, root: Path) -> list[AnnotatedImage]:
        images = []
        for name, file in list_files(root, IMAGE_SUFFIXES, without=NO_IMAGES).items():
            # Cellpose itself leaves the .ome of .ome.tif out of its files' names.
            bases = [file.stem, file.stem.removesuffix(IMG), file.stem.removesuffix(OME)]
            paths = [file.with_name(f"{base}{ending}") for base in bases for ending in (*MASKS, SEG)]
            path = next((path for path in paths if path.is_file()), None)
            problem = "" if path else f"{file} has no masks: expected {paths[0]}, .png, or {file.stem}{SEG}."
            path = path or paths[0]
            read = partial(_read_seg if path.suffix == ".npy" else read_sized_labels, path)
            images.append(AnnotatedImage(name, file, partial(read_bytes, file), read, problem))
        if not images:
            raise DataError(f"{root} holds no image with masks beside it: expected a.tif and a_masks.tif, for example.")
        return images


def _has_image(masks: Path) -> bool:
    bases = [masks.name.removesuffix(ending) for ending in (*MASKS, SEG) if masks.name.endswith(ending)]
    stems = {f"{base}{tail}" for base in bases for tail in ("", IMG)}
    return any(
        path.stem.removesuffix(OME) in stems and path.suffix.lower() in IMAGE_SUFFIXES
        for path in masks.parent.iterdir()
    )


class _Arrays(pickle.Unpickler):
    """Makes NumPy's arrays and Python's plain values; whatever else a pickle asks for is refused, and so never run."""

    # NumPy 2 has moved what its arrays are made by.
    ALLOWED = (
        *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module.replace(".core.", "._core."), name)


def _read_seg(path: Path, size: Size) -> LabelImage:
    """The label image in a file of Cellpose's GUI.

    Raises:
        DataError: it is damaged, or holds more than arrays and plain values.
    """
    try:
        with path.open("rb") as file:
            _skip_header(file)
            masks = np.asarray(_Arrays(file).load().item()["masks"])
        masks = masks[0] if masks.ndim == 3 and len(masks) == 1 else masks
        if masks.ndim != 2 or masks.dtype.kind not in "iuf":
            raise ValueError(f"its masks are {masks.dtype} of shape {masks.shape}")
    # Damaged pickles raise anything.
    except Exception as error:
        reason = first_line(error)
        raise DataError(
            f"{path} cannot be read ({reason}): save the masks as PNG or TIFF in Cellpose, which go before this file."
        ) from None
    return check_labels(masks, str(path))


def _skip_header(file: BinaryIO) -> None:
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    read_header(file)
