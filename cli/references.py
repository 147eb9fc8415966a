"""The published systems and scores to compare runs with: the content of ``results/references.yaml``."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cli.records import Run
from karyon.commands.console import counted
from karyon.errors import DataError

# Options after which an epoch does not see all images, and options that end a run early.
SHORT_EPOCHS = ("--trainer.limit_train_batches", "--trainer.overfit_batches", "--trainer.fast_dev_run")
EARLY_END = ("--trainer.max_steps", "--trainer.max_time")


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
        open: what else stands between our run and the published one, besides its length and its figures, or empty.
        stages: the schedule of each stage's training, of a model of stages.
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
    open: str = ""
    stages: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class References:
    """The content of ``references.yaml``; the file explains its parts."""

    introduction: str
    pages: list[dict[str, Any]]
    unseen: list[dict[str, Any]]
    figures: dict[str, dict[str, Any]]
    sections: dict[str, dict[str, str]]
    baselines: dict[str, dict[str, Any]]
    systems: list[System]
    public: list[dict[str, Any]]
    benchmarks: list[dict[str, str]]
    queue: list[dict[str, str]]

    def published(self, data: str) -> list[tuple[str, str, dict[str, float]]]:
        """Model, source and metrics of public results on some data, of systems not among them, and of the baseline."""
        found: list[tuple[str, str, dict[str, float]]] = []
        for entry in self.public:
            same = entry["data"] == data
            # Other images of the same type.
            if same or entry.get("beside") == data or entry["data"].startswith(f"{data},"):
                found.append((entry["model"], entry["who"] + ("" if same else "; other images"), entry["figures"]))
        for system in self.systems:
            values = {metrics[0]: value for _, value, metrics in self.compared(system)}
            if system.data == data and values and values not in [known for *_, known in found]:
                found.append((system.model, self.sections[system.section]["title"], values))
        if baseline := self.baselines.get(data):
            found.append((baseline["what"], "baseline: one class for every pixel", {"accuracy": baseline["accuracy"]}))
        return found

    def compared(self, system: System) -> list[tuple[str, float, list[str]]]:
        """Title and value of each published figure beside which metrics of ours can stand, and those metrics."""
        about = [(self.figures[key], value) for key, value in system.published.items()]
        return [(figure["title"], value, figure["metrics"]) for figure, value in about if figure["metrics"]]

    def on(self, page: dict[str, Any]) -> list[System]:
        """The systems of one of the `pages`."""
        return [system for system in self.systems if page["data"] in system.data]

    def system(self, run_id: str) -> System | None:
        """The system that a run stands for, be it with another seed, ``<id>-seed-N``; None for any other run."""
        system_id = re.sub(r"-seed-\d+$", "", run_id)
        return next((system for system in self.systems if system.id == system_id), None)


def read_references(path: Path) -> References:
    """Reads the published systems, the public figures and the GPU queue.

    Raises:
        DataError: there is no such file.
    """
    if not path.is_file():
        raise DataError(f"There is no {path}: run in a clone of the project, or name its results with --results_dir.")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return References(**{**content, "systems": [System(**system) for system in content["systems"]]})


def trained(fit: dict[str, Any] | None, schedule: dict[str, int] | None = None) -> str:
    """Says whether a run was trained in full, as its system's schedule has it.

    Early stopping is full training; an interruption, or a limit given on the command line, is not.

    Args:
        fit: the record of the training, None where there is none.
        schedule: ``{"epochs": n}``, ``{"steps": n}``, or None, which stands for the epochs of the run's own config.

    Returns:
        A text that begins with ``full`` or ``partial``, or says that nothing is known.
    """
    if fit is None:
        return "no record of the training"
    annotation = fit.get("annotation", "original")
    return _extent(fit, schedule) + ("" if annotation == "original" else f", {annotation} annotation")


def how_trained(run: Run, system: System | None = None) -> str:
    """Says how a tested run was trained, as `trained` does; of a model of stages, each by a schedule of its own."""
    if run.fit or not run.stages:
        return trained(run.fit, system.schedule if system else None)
    schedules = system.stages if system else {}
    stages = {name: trained(fit, schedules.get(name)) for name, fit in run.stages.items()}
    whole = "full" if all(text.startswith("full") for text in stages.values()) else "partial"
    return f"{whole}: {', '.join(f'{name} {text}' for name, text in stages.items())}"


def _extent(fit: dict[str, Any], schedule: dict[str, int] | None) -> str:
    unit, limit = next(iter((schedule or {"epochs": fit["max_epochs"]}).items()))
    # Lightning's -1 means no limit.
    planned = max(limit or 0, 0)
    done = f"{fit[unit]:,} of {counted(planned, unit[:-1])}" if planned else counted(fit[unit], unit[:-1])
    if fit["interrupted"]:
        return f"partial ({done}, interrupted)"
    # Without a schedule the config's own would be the full one, which an option hides.
    cutting = SHORT_EPOCHS if schedule else (*SHORT_EPOCHS, "--trainer.max_epochs")
    if unit == "epochs" and (cuts := _given(fit, cutting)):
        return f"partial ({done}, {', '.join(cuts)})"
    if 0 < planned <= fit[unit]:
        return f"full ({counted(fit[unit], unit[:-1])})"
    if unit == "steps" or _given(fit, EARLY_END) or -1 < fit["max_epochs"] < planned:
        return f"partial ({done})"
    return f"full (stopped early at {done})" if planned else f"full ({done})"


def _given(fit: dict[str, Any], options: tuple[str, ...]) -> list[str]:
    """Those of the options that the command line of a training gave."""
    words = [word.partition("=")[0] for word in fit["command"].split()]
    return [option for option in options if option in words]
