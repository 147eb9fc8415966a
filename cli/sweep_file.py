"""Sweep files of W&B: what they say, and what W&B's own engine of sweeps makes of them, on this machine."""

import importlib
import math
import random
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import yaml

from datamodules.sample import DataError

METHODS = ("grid", "random", "bayes")


@dataclass(frozen=True)
class Tried:
    """A trial, as the engine sees it.

    Attributes:
        number: from 1.
        parameters: the values it was given.
        state: ``running``, ``finished``, ``failed`` or ``killed``, which hyperband has stopped.
        history: the metric of each validation so far.
    """

    number: int
    parameters: dict[str, Any]
    state: str
    history: list[float]


@dataclass(frozen=True)
class Sweep:
    """A sweep file that W&B accepts.

    Attributes:
        content: of the file.
    """

    content: dict[str, Any]

    @property
    def configs(self) -> list[Path]:
        """The YAML files that a trial may read."""
        entries = self.content["parameters"].values()
        values = [value for entry in entries for value in entry.get("values", [entry.get("value")])]
        paths = [Path(str(word).rpartition("=")[2]) for word in (*self.content["command"], *values)]
        return [path for path in paths if path.suffix == ".yaml" and path.is_file()]

    @property
    def metric(self) -> str | None:
        """What is to be best; a grid and random draws can do without."""
        name: str | None = self.content.get("metric", {}).get("name")
        return name

    @property
    def maximized(self) -> bool:
        return self.content.get("metric", {}).get("goal") == "maximize"

    @property
    def varied(self) -> list[str]:
        """The parameters that do not have one value only."""
        parameters = self.content["parameters"].items()
        return [name for name, entry in parameters if "value" not in entry and len(entry.get("values", [0, 1])) > 1]

    def best(self, history: Sequence[float]) -> float | None:
        """The best of a metric's finite values, None where there is none."""
        finite = [value for value in history if math.isfinite(value)]
        return (max if self.maximized else min)(finite) if finite else None

    def size(self) -> int | None:
        """The number of trials, None where nothing ends them."""
        cap: int | None = self.content.get("run_cap")
        if self.content["method"] != "grid":
            return cap
        cells = sum(run is not None for run in engine().next_runs(self.content, [], n=sys.maxsize))
        return min(cells, cap or cells)

    def propose(self, tried: Sequence[Tried]) -> dict[str, Any] | None:
        """The parameters of the next trial, None where a grid has no more.

        The draw depends on the number of trials so far and, by Bayes, on what they were and gave.
        """
        sweeps = engine()
        random.seed(len(tried))
        np.random.seed(len(tried))
        run = sweeps.next_run(self.content, [self._run(trial) for trial in tried])
        return None if run is None else {name: _plain(entry["value"]) for name, entry in run.config.items()}

    def to_stop(self, tried: Sequence[Tried]) -> set[int]:
        """Numbers of the running trials that lag behind, where the file asks to stop those early."""
        if "early_terminate" not in self.content:
            return set()
        stopped = engine().stop_runs(self.content, [self._run(trial) for trial in tried])
        return {int(run.name) for run in stopped}

    def command(self, parameters: dict[str, Any]) -> list[str]:
        """The words that W&B's agent would run for a trial, with this Python for ``${interpreter}``."""
        # W&B's: it takes a second to import, and not every command needs it.
        from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

        macros = create_sweep_command_args({"args": {name: {"value": value} for name, value in parameters.items()}})
        macros |= {
            "env": ["/usr/bin/env"],
            "interpreter": [sys.executable],
            "program": [self.content.get("program", "")],
        }
        words: list[str] = []
        for word in map(str, create_sweep_command([*self.content["command"]])):
            words += macros[word[2:-1]] if word.startswith("${") else [word]
        return words

    def _run(self, trial: Tried) -> Any:
        return engine().SweepRun(
            name=str(trial.number),
            state=trial.state,
            config={name: {"value": value} for name, value in trial.parameters.items()},
            history=[{self.metric: value} for value in trial.history],
        )


def read_sweep(path: Path) -> Sweep:
    """Reads a sweep file and checks it against W&B's schema.

    Raises:
        DataError: there is none, W&B would refuse it, or its command does not run `fit`.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise DataError(f"There is no sweep file {path}: name one, such as configs/sweeps/unet.yaml.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no YAML ({' '.join(str(error).split())}): correct it.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} is no sweep file: see configs/sweeps/unet.yaml for one.")
    if violations := engine().schema_violations_from_proposed_config(content):
        raise DataError(f"{path} is no sweep file that W&B accepts ({violations[0]}): correct it.")
    if content["method"] not in METHODS or "parameters" not in content:
        raise DataError(f"{path} asks for the method {content['method']}: give it parameters and one of {METHODS}.")
    words = [str(word) for word in content.get("command", [])]
    known = ("${env}", "${interpreter}", "${program}", "${args}", "${args_no_equals}")
    unknown = [word for word in words if word.startswith("${") and word not in known]
    if "fit" not in words or unknown or not {"${args}", "${args_no_equals}"} & set(words):
        wrong = (
            f"has {unknown[0]}, which is not known here" if unknown else "does not hand ${args} to python -m cli fit"
        )
        raise DataError(f"The command of {path} {wrong}: write it as configs/sweeps/unet.yaml does.")
    if content["method"] == "bayes" and "metric" not in content:
        raise DataError(f"{path} names no metric: Bayesian optimisation needs one, such as val/dsb_score.")
    try:
        # The schema allows a grid of ranges.
        Sweep(content).propose([])
    except ValueError as error:
        raise DataError(f"{path} is no sweep that can be run ({error}): correct it.") from None
    return Sweep(content)


def engine() -> ModuleType:
    """W&B's package `sweeps`, which its server and its agent draw the trials with.

    Raises:
        DataError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            # Of pydantic, about the package's own code.
            warnings.simplefilter("ignore")
            # Otherwise imported by the first draw, for which the numbers would then be others.
            importlib.import_module("sweeps.bayes_search")
            return importlib.import_module("sweeps")
    except ImportError as error:
        raise DataError(
            f"The engine of W&B's sweeps cannot be used ({error}): uv sync installs it; where pip is used, pip install "
            "scikit-learn jsonschema jsonref, then pip install --no-deps sweeps, which asks for a NumPy older than it "
            "needs."
        ) from None


def _plain(value: Any) -> Any:
    """A value without NumPy's types."""
    return value.item() if isinstance(value, np.generic) else value
