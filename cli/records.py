"""What runs have left in their folders: records, learning curves, and scores of each image."""

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karyon.commands.console import NONE
from karyon.errors import DataError
from karyon.io.result_tables import plain_name

FIGURES = {
    "dsb_score": "DSB score",
    "ap50": "AP(.5)",
    "ap70": "AP(.7)",
    "ap90": "AP(.9)",
    "aji": "AJI",
    "pq": "PQ",
    "count_error": "count error",
    "miou": "mIoU",
    "iou": "IoU",
    "accuracy": "accuracy",
    "val/accuracy": "validation accuracy",
    "val/miou": "validation mIoU",
    "box_map": "box mAP",
    "box_map50": "box AP(.5)",
    "mask_map": "mask mAP",
    "mask_map50": "mask AP(.5)",
    "crop_iou": "crop IoU",
    "val/crop_iou": "validation crop IoU",
    "v_rand": "V_rand",
    "v_info": "V_info",
    "v_rand_fixed": "V_rand at the set threshold",
    "v_info_fixed": "V_info at the set threshold",
    "rand_error": "Rand error",
    "pixel_error": "pixel error",
    "warping_error": "warping error",
}
Curve = tuple[list[int], list[float]]
"""Steps, and a value at each."""

THRESHOLDS = tuple(k / 100 for k in range(50, 100, 5))
COLUMNS = ("height", "width", "objects_true", "objects_found", *(f"tp_{threshold:.2f}" for threshold in THRESHOLDS))
PROVENANCE = ("command", "date", "commit", "seed", "hardware", "wall_s")
FIT = (*PROVENANCE, "parameters", "epochs", "max_epochs", "steps", "interrupted", "precision")
TEST = (*PROVENANCE, "checkpoint", "metrics")


@dataclass(frozen=True, eq=False)
class ImageScores:
    """What a test says of each of N images.

    Attributes:
        names, types: name and image type (``""`` where unknown) of each.
        sizes: int64 (N, 2), height and width, px.
        n_true, n_pred: int64 (N,), numbers of true and predicted objects.
        tp: int64 (N, 10), true positives at the `THRESHOLDS`.
    """

    names: list[str]
    types: list[str]
    sizes: NDArray[np.int64]
    n_true: NDArray[np.int64]
    n_pred: NDArray[np.int64]
    tp: NDArray[np.int64]

    @cached_property
    def per_threshold(self) -> NDArray[np.float64]:
        """(N, 10), TP / (TP + FP + FN) of each image; 1 where nothing was there and nothing was predicted."""
        whole = (self.n_true + self.n_pred)[:, None] - self.tp
        return np.divide(self.tp, whole, out=np.ones(self.tp.shape), where=whole > 0)

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """(N,), the DSB score of each image."""
        return self.per_threshold.mean(axis=1)

    def of(self, image_type: str) -> NDArray[np.bool_]:
        """(N,), which images are of a type."""
        return np.array(self.types) == image_type


@dataclass(frozen=True)
class Run:
    """A tested run.

    Attributes:
        id: that of a system, or a name of its own.
        fit: the record of the training, None where there is none.
        test: the record of the test.
        val: the record of a validation after the training, None where there is none.
        bounds: metrics with the truth in place of one stage of two, or of both, as ``bound`` names it; None if unknown.
        stages: the records of the trainings of the stages that a model is made of; {} for a model of one training.
    """

    id: str
    fit: dict[str, Any] | None
    test: dict[str, Any]
    val: dict[str, Any] | None = None
    bounds: dict[str, dict[str, float]] | None = None
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)

    def metric(self, name: str) -> float | None:
        """A figure of the test, by the name that follows ``test/``, or one of ``val/``; None where there is none."""
        validation = self.val["metrics"] if self.val else {}
        value: float | None = {**self.test["metrics"], **validation}.get(
            name if name.startswith("val/") else f"test/{name}"
        )
        return None if value is None or math.isnan(value) else value

    @property
    def seconds(self) -> str:
        """What the test took for an image: network, postprocessing and scoring."""
        value = self.test.get("seconds_per_image")
        return NONE if value is None else f"{value:.2f}"


def read_run(path: Path, run_id: str | None = None) -> Run:
    """Reads the record that a test left.

    Args:
        path: of a ``record.json``.
        run_id: what to call the run; by default what it was called itself, after its folder.

    Raises:
        DataError: the file is missing, no record or without a test, or the run has no usable name.
    """
    record = read_record(path)
    if record.get("test") is None:
        raise DataError(f"{path} has no test section: test the run first (python -m cli test --config ...).")
    run_id = run_id or run_name(Path(record["test"]["checkpoint"]))
    if run_id is None or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", run_id):
        raise DataError(f"{path} does not tell what to call the run: name it with --as ID (letters, digits, . _ -).")
    stages = {name: stage["fit"] for name, stage in (record.get("stages") or {}).items() if stage.get("fit")}
    return Run(run_id, record.get("fit"), record["test"], record.get("val"), record.get("bounds"), stages)


def read_record(path: Path) -> dict[str, Any]:
    """Reads what a run has left so far: the sections ``fit``, ``test`` and ``val``, each where it has come to that.

    Raises:
        DataError: the file is missing or no record.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise DataError(f"There is no record {path}: give the record.json that a test left in its folder.") from None
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise DataError(f"{path} is not a record of a run: give the record.json that a test left in its folder.")
    sections = {"fit": FIT, "test": TEST, "val": TEST}
    found = [(name, record[name], keys) for name, keys in sections.items() if record.get(name) is not None]
    stages = record.get("stages") or {}
    if not isinstance(stages, dict) or not all(isinstance(stage, dict) for stage in stages.values()):
        found, stages = [*found, ("stages", None, ())], {}
    found += [(f"stages.{name}.fit", stage["fit"], FIT) for name, stage in stages.items() if stage.get("fit")]
    if missing := [lack for name, section, keys in found for lack in _missing(name, section, keys)]:
        raise DataError(
            f"{path} is not a record of a run, it lacks {', '.join(missing)}: give the file as the test left it."
        )
    return record


def _missing(name: str, section: Any, keys: tuple[str, ...]) -> list[str]:
    if not isinstance(section, dict):
        return [name]
    missing = [f"{name}.{key}" for key in keys if key not in section]
    metrics = section.get("metrics", {})
    usable = isinstance(metrics, dict) and all(isinstance(value, int | float) for value in metrics.values())
    return missing if usable else [*missing, f"numbers in {name}.metrics"]


def run_name(checkpoint: Path) -> str | None:
    """The name of the run that wrote a checkpoint, None where the path does not tell.

    >>> run_name(Path("runs/r3-unet/version_0/checkpoints/best.ckpt"))
    'r3-unet'
    """
    tells = checkpoint.parent.name == "checkpoints" and re.fullmatch(r"version_\d+", checkpoint.parent.parent.name)
    name = checkpoint.parent.parent.parent.name
    return name if tells and name not in ("", "unnamed") else None


def image_types(runs: Iterable[Run]) -> list[str]:
    """The image types that any of the runs was scored on."""
    score = "test/dsb_score/"
    return sorted({key.removeprefix(score) for run in runs for key in run.test["metrics"] if key.startswith(score)})


def read_curves(folder: Path) -> dict[str, Curve]:
    """The values of training and validation, of all parts of a run that was resumed.

    What a part had logged beyond the state that the next went on from is left out.

    Args:
        folder: of the run; holds ``metrics.csv``, and ``metrics-before-resume*.csv`` of earlier parts.

    Raises:
        DataError: a file is damaged.
    """
    earlier = sorted(folder.glob("metrics-before-resume*.csv"), key=lambda path: (len(path.name), path.name))
    values: dict[str, dict[int, float]] = {}
    for path in (*earlier, folder / "metrics.csv"):
        with _damaged(path):
            if not (rows := _rows(path, ("step",))):
                continue
            start = min(int(row["step"]) for row in rows)
            values = {name: {k: v for k, v in curve.items() if k < start} for name, curve in values.items()}
            for row in rows:
                for name, cell in row.items():
                    if cell and name and name.startswith(("train/", "val/")):
                        values.setdefault(name, {})[int(row["step"])] = float(cell)
    return {name: (list(curve), list(curve.values())) for name, curve in values.items()}


def read_images(path: Path) -> ImageScores | None:
    """Reads the table of images that `lightning_modules.callbacks.score_tables.ScoreTables` wrote; None without any.

    Raises:
        DataError: it is damaged.
    """
    with _damaged(path):
        if not (rows := _rows(path, ("image", "type", *COLUMNS))):
            return None
        counts = np.array([[int(row[key]) for key in COLUMNS] for row in rows], dtype=np.int64)
        names, types = [plain_name(row["image"]) for row in rows], [row["type"] for row in rows]
        return ImageScores(names, types, counts[:, :2], counts[:, 2], counts[:, 3], counts[:, 4:])


def read_objects(path: Path) -> NDArray[np.float64] | None:
    """Reads the table of predicted objects: float64 (M, 2), their scores and greatest IoU; None where there is none.

    Raises:
        DataError: it is damaged.
    """
    columns = ("score", "iou")
    with _damaged(path):
        values = np.array([[float(row[key]) for key in columns] for row in _rows(path, columns)])
    return values.reshape(-1, 2) if path.is_file() else None


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table that has these columns among others; none without the file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        if missing := set(columns) - set(table.fieldnames or ()):
            raise ValueError(missing)
        return list(table)


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, OverflowError, csv.Error):
        raise DataError(
            f"{path} cannot be read as a table of a run: move it away, and test the run again for its scores."
        ) from None
