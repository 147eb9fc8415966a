"""What a report is made of: the files that runs have left in their folders."""

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from cli.results_records import Run, read_record
from cli.runs import in_versions
from datamodules.sample import DataError
from lightning_modules.callbacks.run_record import run_folder
from lightning_modules.callbacks.score_tables import TP_COLUMNS
from lightning_modules.metrics.per_image import ratio

Curve = tuple[list[int], list[float]]
"""Steps, and a value at each."""


@dataclass(frozen=True, eq=False)
class ImageScores:
    """What a test says of each of N images.

    Attributes:
        names, kinds, sizes: name, image type (``""`` where unknown), and height and width, px, of each.
        n_true, n_pred: int64 (N,), numbers of true and found objects.
        tp: int64 (N, 10), true positives at the thresholds .50, .55 ... .95.
    """

    names: list[str]
    kinds: list[str]
    sizes: list[tuple[int, int]]
    n_true: NDArray[np.int64]
    n_pred: NDArray[np.int64]
    tp: NDArray[np.int64]

    @cached_property
    def per_threshold(self) -> NDArray[np.float64]:
        """(N, 10), TP / (TP + FP + FN) of each image."""
        return np.asarray(ratio(self.tp, (self.n_true + self.n_pred)[:, None] - self.tp))

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """(N,), the DSB score of each image."""
        return self.per_threshold.mean(axis=1)

    def of_kind(self, kind: str) -> NDArray[np.bool_]:
        """(N,), which images are of a type."""
        return np.array([other == kind for other in self.kinds], dtype=bool)


@dataclass(frozen=True, eq=False)
class ObjectScores:
    """The M objects that a test has found: float64 (M,) scores, and greatest IoU with a true object."""

    scores: NDArray[np.float64]
    ious: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ReportedRun:
    """A run, as far as it has come.

    Attributes:
        place: among the runs of the report, from 0.
        label: its name, unlike those of the others.
        folder: what it left.
        config: the resolved config, empty where there is none.
        curves: training and validation figures by name, such as ``val/loss``.
        fit: the record of its training, None where there is none.
        tested: its newest test, None where there is none.
        evaluated: the folder that this test wrote into.
        images, objects: what the test says of each, None where it says nothing.
    """

    place: int
    label: str
    folder: Path
    config: dict[str, Any]
    curves: dict[str, Curve]
    fit: dict[str, Any] | None
    tested: Run | None
    evaluated: Path
    images: ImageScores | None
    objects: ObjectScores | None

    def argument(self, *path: str) -> Any:
        """An entry of the config, None where it has none."""
        node: Any = self.config
        for key in path:
            node = node.get(key) if isinstance(node, dict) else None
        return node


def read_runs(paths: Sequence[Path]) -> list[ReportedRun]:
    """Reads what runs have left.

    Args:
        paths: of runs' folders, ``runs/NAME/version_N`` or ``runs/NAME``, which stands for the newest version; or of
            folders that a test wrote into.

    Raises:
        DataError: a folder holds no run, or a file in it is damaged.
    """
    folders = list(dict.fromkeys(_find_run(path) for path in paths))
    return [_read(place, *named) for place, named in enumerate(zip(folders, _labels(folders), strict=True))]


def _find_run(path: Path) -> Path:
    folder = path.resolve()
    if any((folder / name).is_file() for name in ("record.json", "metrics.csv", "config.yaml", "test/record.json")):
        return folder
    versions = in_versions(folder.parent, folder.name, "config.yaml")
    if not versions:
        raise DataError(f"{path} holds no run: name the folder of one, such as runs/NAME or runs/NAME/version_0.")
    return versions[0].parent


def _labels(folders: list[Path]) -> list[str]:
    """Names of runs: as short as tells them apart."""
    named = [folder.parts[:-1] if re.fullmatch(r"version_\d+", folder.name) else folder.parts for folder in folders]
    whole = [folder.parts for folder in folders]
    for paths, length in [(named, 1), (named, 2), (whole, 2), (named, 3), (whole, 3)]:
        labels = ["/".join(path[-length:]) for path in paths]
        if len(set(labels)) == len(labels):
            return labels
    return [str(folder) for folder in folders]


def _read(place: int, folder: Path, label: str) -> ReportedRun:
    paths = [path for path in (folder / "record.json", folder / "test" / "record.json") if path.is_file()]
    records = {path.parent: read_record(path) for path in paths}
    tests = {tested: record for tested, record in records.items() if record.get("test")}
    evaluated = max(tests, key=lambda tested: tests[tested]["test"]["date"], default=folder)
    record = tests.get(evaluated) or records.get(folder, {})
    tested = Run(label, record.get("fit"), record["test"], record.get("val")) if record.get("test") else None
    checkpoint = Path(tested.test["checkpoint"]) if tested else Path()
    # A test that was told to write elsewhere knows where its training lies.
    elsewhere = checkpoint.parent.name == "checkpoints" and not _has_curves(folder)
    trained = run_folder(checkpoint) if elsewhere else folder
    return ReportedRun(
        place,
        label,
        folder,
        _read_config(trained) or _read_config(evaluated),
        read_curves(trained),
        record.get("fit"),
        tested,
        evaluated,
        read_image_scores(evaluated / "image_scores.csv"),
        read_object_scores(evaluated / "object_scores.csv"),
    )


def _has_curves(folder: Path) -> bool:
    return any(name.startswith("train/") for name in read_curves(folder))


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    if not path.is_file():
        return {}
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        config = None
    if not isinstance(config, dict):
        raise DataError(f"{path} is no config of a run: put the file that the run wrote in its place, or delete it.")
    return config


def read_curves(folder: Path) -> dict[str, Curve]:
    """The figures of training and validation, of all parts of a run that was resumed.

    What a part had logged beyond the state that the next went on from is left out.

    Args:
        folder: of the run; holds ``metrics.csv``, and ``metrics-before-resume*.csv`` of earlier parts.

    Raises:
        DataError: a file is damaged.
    """
    earlier = sorted(folder.glob("metrics-before-resume*.csv"), key=lambda path: (len(path.name), path.name))
    values: dict[str, dict[int, float]] = {}
    for path in (*earlier, folder / "metrics.csv"):
        rows = _read_table(path, ("step",)) if path.is_file() else []
        with _damaged(path):
            start = min((int(row["step"]) for row in rows), default=0)
            if rows:
                values = {name: {k: v for k, v in curve.items() if k < start} for name, curve in values.items()}
            for row in rows:
                for name, cell in row.items():
                    if cell and name and name.startswith(("train/", "val/")):
                        values.setdefault(name, {})[int(row["step"])] = float(cell)
    return {name: (list(curve), list(curve.values())) for name, curve in values.items()}


def read_image_scores(path: Path) -> ImageScores | None:
    """Reads the table that `lightning_modules.callbacks.score_tables.ScoreTables` wrote; None without it or any image.

    Raises:
        DataError: it is damaged.
    """
    if not path.is_file():
        return None
    columns = ("image", "type", "height", "width", "objects_true", "objects_found", *TP_COLUMNS)
    if not (rows := _read_table(path, columns)):
        return None
    with _damaged(path):
        counts = np.array([[int(row[key]) for key in columns[2:]] for row in rows], dtype=np.int64)
        sizes = [(height, width) for height, width in counts[:, :2].tolist()]
        names, kinds = [row["image"] for row in rows], [row["type"] for row in rows]
        return ImageScores(names, kinds, sizes, counts[:, 2], counts[:, 3], counts[:, 4:])


def read_object_scores(path: Path) -> ObjectScores | None:
    """Reads the table of found objects; None where there is none.

    Raises:
        DataError: it is damaged.
    """
    if not path.is_file():
        return None
    rows = _read_table(path, ("score", "iou"))
    with _damaged(path):
        return ObjectScores(*(np.array([float(row[key]) for row in rows]) for key in ("score", "iou")))


def _read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    with _damaged(path), path.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        missing = [column for column in columns if column not in (table.fieldnames or ())]
        if missing:
            raise ValueError(missing)
        return list(table)


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, csv.Error):
        raise DataError(
            f"{path} cannot be read as a table of a run: move it away, and test the run again for its scores."
        ) from None
