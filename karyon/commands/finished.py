"""What lies in a folder of results already: images that are done, of which another format can be written."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from karyon.commands.console import counted
from karyon.errors import DataError
from karyon.instances import Instances
from karyon.io.formats import Format
from karyon.io.reading import open_image
from karyon.io.result_tables import merge_parts, read_rows
from karyon.io.results_folder import ResultFolder
from karyon.io.tables import OBJECT_COLUMNS
from karyon.io.whole_files import write_whole

PROBABILITIES = {"probability", "membranes"}
SCORED = {"objects", "parquet", "scores", "geojson", "coco"}  # formats that hold an object's score
SCORE = OBJECT_COLUMNS.index("score")


class Finished:
    """Images of a folder of results that are done, but not in every format that is asked for now.

    Args:
        settings: the file of the folder's settings, among them ``formats``.
        asked: the formats asked for.
        images: names of the files named now.
        alone: whether no other job writes into the folder.

    Attributes:
        formats: those of the folder, and those asked for.
        added: those that finished images lack, to be written from their label images.
        left: names of the images that lack them.

    Raises:
        DataError: they cannot be written.
    """

    def __init__(self, settings: Path, asked: Sequence[Format], images: Sequence[str], alone: bool) -> None:
        self.settings, self.folder = settings, settings.parent
        earlier = json.loads(settings.read_text())["formats"]
        if alone:
            merge_parts(self.folder)
        self.formats = [known for known in get_args(Format) if known in {*earlier, *asked}]
        self.added: list[Format] = [known for known in self.formats if known not in earlier]
        self.counts: dict[str, int] = {}
        self.scores: defaultdict[str, list[float]] = defaultdict(list)
        if self.added:
            self._begin(earlier, images, alone)
        self.left = set(self.counts)

    def _begin(self, earlier: Sequence[Format], images: Sequence[str], alone: bool) -> None:
        counts = self.folder / "counts.csv"
        self.counts = {row[0]: int(row[1]) for row in read_rows(counts)} if counts.exists() else {}
        new = ", ".join(self.added)
        if self.counts and PROBABILITIES & set(self.added):
            raise DataError(f"{self.folder} holds no probabilities to make {new} from: choose another --out.")
        if not alone:
            raise DataError(f"{self.folder} is without {new}: write them by the same command without --shard.")
        needed = {"labels"} | ({"objects"} if SCORED & set(self.added) else set())
        if self.counts and (missing := sorted(needed - set(earlier))):
            raise DataError(
                f"{self.folder} was written without {' and '.join(missing)}, which {new} of its images would be made "
                "from: choose another --out, or --overwrite its results."
            )
        if unnamed := sorted(name for name in self.counts if not {name, name.rpartition("/")[0]} & set(images)):
            raise DataError(
                f"{self.folder} holds results of {unnamed[0]} too, which is not named here: name all its images to "
                f"write {new}, or choose another --out."
            )
        if "objects" in earlier:
            for row in read_rows(self.folder / "objects.csv"):
                self.scores[row[0]].append(float(row[SCORE]))
        print(f"Adding {new} to {counted(len(self.counts), 'image')} from label images.", flush=True)
        for table in self.added:
            # Of an earlier start, which was interrupted.
            (self.folder / f"{table}.csv").unlink(missing_ok=True)

    def objects(self, results: ResultFolder, name: str, title: str, page: int) -> Instances:
        """The objects of an image that is done, from its label image.

        Args:
            results: in the folder.
            name: of the file.
            title: of the image.
            page: its number in the file, from 0.

        Raises:
            DataError: the label image is missing, or was changed since.
        """
        own, stack = results.path("labels", title), results.path("labels", name)
        path, page = (own, 0) if own.exists() else (stack, page)
        labels = open_image(path, raw=True).read(page)
        if not np.array_equal(np.unique(labels[labels > 0]), np.arange(1, self.counts[title] + 1)):
            raise DataError(
                f"{path} was changed since: it does not hold the {self.counts[title]} objects of counts.csv; choose "
                "another --out, or --overwrite the results."
            )
        scores = self.scores.get(title)
        return Instances.from_labels(labels, None if scores is None else np.array(scores, np.float32))

    def record(self) -> None:
        """Writes down that every image has every format, once it has."""
        if self.added and not self.left:
            settings = json.loads(self.settings.read_text()) | {"formats": self.formats}
            write_whole(self.settings, (json.dumps(settings, indent=1) + "\n").encode())
