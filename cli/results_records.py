"""What the results are made of: the records that runs left, and the published systems to compare them with."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datamodules.sample import DataError

PROVENANCE = ("command", "date", "commit", "seed", "hardware", "wall_s")
FIT = (*PROVENANCE, "parameters", "epochs", "max_epochs", "steps", "interrupted", "precision")
TEST = (*PROVENANCE, "checkpoint", "metrics")
# Options after which an epoch does not see all images, and options that end a run early.
SHORT_EPOCHS = ("--trainer.limit_train_batches", "--trainer.overfit_batches", "--trainer.fast_dev_run")
EARLY_END = ("--trainer.max_steps", "--trainer.max_time")


@dataclass(frozen=True)
class Run:
    """A tested run.

    Attributes:
        id: that of a system, or a name of its own.
        fit: the record of the training, None where there is none.
        test: the record of the test.
        val: the record of a validation after the training, None where there is none.
        bounds: metrics with the truth in place of one stage of two, or of both, as ``bound`` names it; None if unknown.
    """

    id: str
    fit: dict[str, Any] | None
    test: dict[str, Any]
    val: dict[str, Any] | None = None
    bounds: dict[str, dict[str, float]] | None = None

    def metric(self, name: str) -> float | None:
        """A figure of the test, by the name that follows ``test/``, or one of ``val/``; None where there is none."""
        validation = self.val["metrics"] if self.val else {}
        value: float | None = {**self.test["metrics"], **validation}.get(
            name if name.startswith("val/") else f"test/{name}"
        )
        return None if value is None or math.isnan(value) else value


@dataclass(frozen=True)
class System:
    """A published system.

    Attributes:
        id: also the name of its config and of our record of it.
        section: the publication, R1 to R4.
        model: in words.
        data: the data set it was trained and tested on.
        published: its figures.
        config: path of our config, None where none is planned.
        schedule: ``{"epochs": n}`` or ``{"steps": n}`` of a full run, None where unknown.
        note: what else to know, or empty.
        beyond: what it was given beyond the original annotation, or empty.
    """

    id: str
    section: str
    model: str
    data: str
    published: dict[str, float]
    config: str | None
    schedule: dict[str, int] | None
    note: str
    beyond: str = ""


@dataclass(frozen=True)
class References:
    """The content of ``references.yaml``; the file explains its parts."""

    figures: dict[str, dict[str, Any]]
    sections: dict[str, dict[str, str]]
    baselines: dict[str, dict[str, Any]]
    systems: list[System]
    public: list[dict[str, Any]]
    benchmarks: list[dict[str, str]]
    queue: list[dict[str, str]]


def read_references(path: Path) -> References:
    """Reads the published systems, the public figures and the GPU queue.

    Raises:
        DataError: there is no such file.
    """
    if not path.is_file():
        raise DataError(f"There is no {path}: run from the folder that holds results/, or name it with --results_dir.")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return References(**{**content, "systems": [System(**system) for system in content["systems"]]})


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
    return Run(run_id, record.get("fit"), record["test"], record.get("val"), record.get("bounds"))


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
        raise DataError(f"{path} is no record of a run: give the record.json that a test left in its folder.")
    sections = {"fit": FIT, "test": TEST, "val": TEST}
    found = {name: record[name] for name in sections if record.get(name) is not None}
    if missing := [lack for name, section in found.items() for lack in _missing(name, section, sections[name])]:
        raise DataError(
            f"{path} is no record of a run, it lacks {', '.join(missing)}: give the file as the test left it."
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


def trained(run: Run, schedule: dict[str, int] | None) -> str:
    """Says whether a run was trained in full, as its system's schedule has it.

    Early stopping is full training; an interruption, or a limit given on the command line, is not.

    Args:
        run: with or without the record of its training.
        schedule: ``{"epochs": n}``, ``{"steps": n}``, or None, which stands for the epochs of the run's own config.

    Returns:
        A text that begins with ``full`` or ``partial``, or says that nothing is known.
    """
    if run.fit is None:
        return "no record of the training"
    annotation = run.fit.get("annotation", "original")
    return _extent(run.fit, schedule) + ("" if annotation == "original" else f", {annotation} annotation")


def _extent(fit: dict[str, Any], schedule: dict[str, int] | None) -> str:
    unit, limit = next(iter((schedule or {"epochs": fit["max_epochs"]}).items()))
    # Lightning's -1 means no limit.
    planned = max(limit or 0, 0)
    done = f"{fit[unit]} of {planned} {unit}" if planned else f"{fit[unit]} {unit}"
    if fit["interrupted"]:
        return f"partial ({done}, interrupted)"
    # Without a schedule the config's own would be the full one, which an option hides.
    cutting = SHORT_EPOCHS if schedule else (*SHORT_EPOCHS, "--trainer.max_epochs")
    if unit == "epochs" and (cuts := _given(fit, cutting)):
        return f"partial ({done}, {', '.join(cuts)})"
    if 0 < planned <= fit[unit]:
        return f"full ({fit[unit]} {unit})"
    if unit == "steps" or _given(fit, EARLY_END) or -1 < fit["max_epochs"] < planned:
        return f"partial ({done})"
    return f"full (stopped early at {done})" if planned else f"full ({done})"


def _given(fit: dict[str, Any], options: tuple[str, ...]) -> list[str]:
    """Those of the options that the command line of a training gave."""
    words = [word.partition("=")[0] for word in fit["command"].split()]
    return [option for option in options if option in words]
