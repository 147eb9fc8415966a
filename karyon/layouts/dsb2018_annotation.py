"""DSB2018's annotation beside its masks: the community's corrections, and the table of the test set."""

import csv
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

from karyon.errors import DataError
from karyon.io.reading import read_image, read_table
from karyon.labels import LabelImage, decode_run_lengths
from karyon.layouts.dsb2018_files import Entry, Source, open_source, read_entry_image, read_entry_labels
from karyon.preprocessing import Pixels


class Corrections:
    """The community's corrections of the training annotation: label images ``<ImageId>.png`` and ``removed.txt``.

    Attributes:
        files: for each corrected image, its label image's file.
        removed: images to leave out.

    Raises:
        DataError: there are none in the folder.
    """

    def __init__(self, root: Path) -> None:
        source = open_source(root, "stage1_train_corrections")
        if source is None:
            raise DataError(
                f"There is no stage1_train_corrections.zip and no folder of that name in {root}: put the corrections "
                "there, or choose --data.init_args.annotation original."
            )
        self.source = source
        names = [name for name in source.sizes() if "__MACOSX" not in name]
        self.files = {PurePosixPath(name).stem: name for name in names if name.lower().endswith(".png")}
        lists = [name for name in names if PurePosixPath(name).name == "removed.txt"]
        self.removed = {line for name in lists for line in source.read(name).decode(errors="replace").split()}

    def read_labels(self, name: str, size: tuple[int, int]) -> LabelImage:
        """The label image of a corrected image, int32 (H, W).

        Args:
            name: of the image.
            size: its height and width, px.

        Raises:
            DataError: it is damaged, of another size or no label image.
        """
        where = f"{self.source.path}/{self.files[name]}"
        labels = read_image(self.source.read(self.files[name]), where)
        if labels.shape != size or not np.issubdtype(labels.dtype, np.integer):
            raise DataError(
                f"{where} is not a label image of {size[0]} x {size[1]} px but {labels.dtype} of shape {labels.shape}: "
                "get the corrections again."
            )
        return labels.astype(np.int32)


class SolutionTable:
    """The run lengths of ``stage1_solution.csv``; rows whose Usage is ``Ignored`` are left out.

    Raises:
        DataError: the file is missing, is not a table, or has no ``ImageId`` and ``EncodedPixels`` columns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.codes: dict[str, list[str]] = defaultdict(list)
        try:
            for row in read_table(path):
                if row.get("Usage") != "Ignored":
                    self.codes[row["ImageId"]].append(row["EncodedPixels"])
        except (KeyError, ValueError, csv.Error):
            raise DataError(
                f"{path} is not a table of ImageId,EncodedPixels,Height,Width,Usage: get it again."
            ) from None

    def read_labels(self, name: str, size: tuple[int, int]) -> LabelImage:
        """The label image of one image; ids follow the order of the rows.

        Returns:
            int32 (H, W).

        Raises:
            DataError: the table has no row for the image, a code is wrong, or two nuclei overlap.
        """
        if name not in self.codes:
            raise DataError(f"{self.path} has no row for image {name}: the images and the table are of different sets.")
        flat = np.zeros(size[0] * size[1], np.int32)
        for number, code in enumerate(self.codes[name], start=1):
            try:
                positions = decode_run_lengths(code, size)
            except DataError as error:
                raise DataError(f"{self.path}, image {name}: {error}") from None
            if flat[positions].any():
                raise DataError(f"{self.path}: nucleus {number} of image {name} overlaps another; repair the row.")
            flat[positions] = number
        return flat.reshape(size, order="F")


def read_masks(source: Source, entry: Entry) -> tuple[Pixels, LabelImage]:
    """An entry's image and label image, of its mask files."""
    pixels = read_entry_image(source, entry)
    return pixels, read_entry_labels(source, entry, pixels.shape[:2])


def read_corrected(source: Source, entry: Entry, corrections: Corrections) -> tuple[Pixels, LabelImage]:
    """An entry's image and label image, of the corrections."""
    pixels = read_entry_image(source, entry)
    return pixels, corrections.read_labels(entry.name, pixels.shape[:2])


def read_solution(source: Source, entry: Entry, table: SolutionTable) -> tuple[Pixels, LabelImage]:
    """An entry's image and label image, of a table's run lengths."""
    pixels = read_entry_image(source, entry)
    return pixels, table.read_labels(entry.name, pixels.shape[:2])
