"""A sweep file in W&B's form, translated for Optuna. Needs Optuna, which is optional."""

import math
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler
from pydantic import BaseModel, Field, PositiveInt, ValidationError, field_validator, model_validator

from karyon.errors import DataError

MACROS = ("${env}", "${interpreter}", "${program}", "${args}", "${args_no_equals}")
RANGES = ("int_uniform", "uniform", "q_uniform", "log_uniform", "log_uniform_values")


class _Keys(BaseModel, extra="forbid", strict=True):
    """A part of a sweep file; other keys than its own are not supported."""


class _Metric(_Keys):
    name: str
    goal: Literal["minimize", "maximize"] = "minimize"


class _Hyperband(_Keys):
    type: Literal["hyperband"]
    min_iter: PositiveInt | None = None
    max_iter: PositiveInt | None = None
    s: PositiveInt | None = None
    eta: int = Field(3, ge=2)


class _Parameter(_Keys):
    distribution: str | None = None
    value: Any = None
    values: list[Any] | None = Field(None, min_length=1)
    min: Any = None
    max: Any = None
    q: Any = 1

    @field_validator("min", "max", "q")
    @classmethod
    def _number(cls, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{value!r} is not a number (YAML reads 1e-4 as text: write 0.0001)")
        return value

    @model_validator(mode="after")
    def _drawable(self) -> "_Parameter":
        self.in_optuna()
        return self

    def in_optuna(self) -> BaseDistribution | None:
        """Optuna's distribution, None for a constant."""
        given = self.model_fields_set - {"distribution"}
        whole = isinstance(self.min, int) and isinstance(self.max, int)
        implied = "constant" if "value" in given else "categorical" if "values" in given else "uniform"
        kind = self.distribution or ("int_uniform" if whole and implied == "uniform" else implied)
        if kind not in ("constant", "categorical", *RANGES):
            raise ValueError(f"the distribution {kind} is not supported: use categorical, {', '.join(RANGES)}")
        keys = {"constant": {"value"}, "categorical": {"values"}}.get(kind, {"min", "max"})
        if given - ({"q"} if kind == "q_uniform" else set()) != keys:
            raise ValueError(f"{kind} takes {' and '.join(sorted(keys))}, not {', '.join(sorted(given)) or 'nothing'}")
        if kind == "constant":
            return None
        if kind == "categorical":
            # Optuna keeps plain values; a command shows the others as the same text.
            choices = [v if isinstance(v, bool | int | float) else str(v) for v in self.values or ()]
            return CategoricalDistribution(choices)
        if kind == "int_uniform":
            return IntDistribution(self.min, self.max)
        low, high = (math.exp(self.min), math.exp(self.max)) if kind == "log_uniform" else (self.min, self.max)
        return FloatDistribution(low, high, log=kind.startswith("log"), step=self.q if kind == "q_uniform" else None)


class Sweep(_Keys):
    """A sweep file in W&B's form, as far as it is supported."""

    method: Literal["grid", "random", "bayes"]
    parameters: dict[str, _Parameter] = Field(min_length=1)
    command: list[str | int | float]
    program: str = ""
    metric: _Metric | None = None
    early_terminate: _Hyperband | None = None
    run_cap: PositiveInt | None = None
    name: str | None = None
    project: str | None = None
    entity: str | None = None
    description: str | None = None

    @model_validator(mode="after")
    def _runnable(self) -> "Sweep":
        if self.metric is None and (self.method == "bayes" or self.early_terminate):
            raise ValueError("metric is missing: bayes and early_terminate need one, such as val/dsb_score")
        if unknown := [word for word in self.command if str(word).startswith("${") and word not in MACROS]:
            raise ValueError(f"{unknown[0]} of command is not supported: use {', '.join(MACROS)}")
        if "fit" not in self.command or not {"${args}", "${args_no_equals}"} & {*self.command}:
            raise ValueError("command does not hand ${args} to python -m cli fit: see configs/sweeps/unet.yaml")
        # Each refuses what it cannot do.
        self.size(), self.pruner()
        return self

    @property
    def goal(self) -> Literal["minimize", "maximize"]:
        """Whether the metric is to be minimized or maximized."""
        return self.metric.goal if self.metric else "minimize"

    @property
    def configs(self) -> list[Path]:
        """The YAML files that a trial may read."""
        values = [value for parameter in self.parameters.values() for value in parameter.values or [parameter.value]]
        paths = [Path(str(word).rpartition("=")[2]) for word in (*self.command, *values)]
        return [path for path in paths if path.suffix == ".yaml" and path.is_file()]

    @property
    def space(self) -> dict[str, BaseDistribution]:
        """The distribution of each parameter that is not a constant."""
        found = {name: parameter.in_optuna() for name, parameter in sorted(self.parameters.items())}
        return {name: distribution for name, distribution in found.items() if distribution}

    @property
    def grid(self) -> dict[str, list[Any]]:
        """The values of each parameter of a grid."""
        grid: dict[str, list[Any]] = {}
        for name, distribution in self.space.items():
            if isinstance(distribution, CategoricalDistribution):
                grid[name] = list(distribution.choices)
            elif isinstance(distribution, IntDistribution):
                grid[name] = list(range(distribution.low, distribution.high + 1))
            else:
                raise ValueError(f"{name} of parameters is a range, of which there is no grid: give its values")
        return grid

    def size(self) -> int | None:
        """The number of trials, None where nothing ends them."""
        if self.method != "grid":
            return self.run_cap
        cells = math.prod(map(len, self.grid.values()))
        return min(cells, self.run_cap or cells)

    def sampler(self, drawn: int) -> BaseSampler:
        """Optuna's sampler for the next trial.

        Args:
            drawn: how many trials there are. On it and on what they gave depends what is drawn, so that no two of the
                processes that share a study, each of which draws a trial, draw the same.
        """
        if self.method == "grid":
            return GridSampler(self.grid, seed=0)
        return RandomSampler(seed=drawn) if self.method == "random" else TPESampler(seed=drawn)

    def pruner(self) -> BasePruner:
        """Optuna's pruner; W&B's hyperband has one bracket, which is successive halving."""
        if (asked := self.early_terminate) is None:
            return NopPruner()
        if bool(asked.min_iter) == bool(asked.max_iter and asked.s):
            raise ValueError("early_terminate takes either min_iter, or max_iter and s")
        first = asked.min_iter or max(1, (asked.max_iter or 1) // asked.eta ** (asked.s or 1))
        return SuccessiveHalvingPruner(min_resource=first, reduction_factor=asked.eta)

    def best(self, values: Iterable[float]) -> float | None:
        """The best of a metric's finite values, None where there is none."""
        finite = [value for value in values if math.isfinite(value)]
        return (max if self.goal == "maximize" else min)(finite) if finite else None

    def given(self, drawn: dict[str, Any]) -> dict[str, Any]:
        """All parameters of a trial, constants included, by the alphabet, as W&B's agent hands them over."""
        return {name: drawn.get(name, parameter.value) for name, parameter in sorted(self.parameters.items())}

    def words(self, given: dict[str, Any]) -> list[str]:
        """The words that W&B's agent would run for a trial, with this Python for ``${interpreter}``.

        Args:
            given: all parameters of the trial.
        """
        macros = {
            "${env}": ["/usr/bin/env"],
            "${interpreter}": [sys.executable],
            "${program}": [self.program],
            "${args}": [f"--{name}={value}" for name, value in given.items()],
            "${args_no_equals}": [word for name, value in given.items() for word in (f"--{name}", str(value))],
        }
        words: list[str] = []
        for word in map(str, self.command):
            known = re.sub(r"\${envvar:([A-Z0-9_]*)}", lambda found: os.environ.get(found[1], found[1]), word)
            words += macros.get(word, [known])
        return words

    @property
    def varied(self) -> dict[str, str]:
        """The parameters that have more than one value, and the ends of their names, by which they are told apart."""
        names = [name for name, distribution in self.space.items() if not distribution.single()]
        return {name: ".".join(name.replace(".init_args", "").split(".")[-2:]) for name in names}


def read_sweep(path: Path) -> Sweep:
    """Reads and checks a sweep file.

    Raises:
        DataError: there is none, or it asks for what is wrong or not supported; the sentence names the key.
    """
    try:
        return Sweep.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError:
        raise DataError(f"There is no sweep file {path}: name one, such as configs/sweeps/unet.yaml.") from None
    except ValidationError as error:
        first = error.errors()[0]
        said = "is not supported" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        key = f"{'.'.join(map(str, first['loc']))} " if first["loc"] else ""
        raise DataError(f"{path} cannot be run ({key}{said.rstrip('.')}): correct it, see docs/tracking.md.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not YAML ({' '.join(str(error).split())}): correct it.") from None


def plain(value: Any) -> str:
    """A parameter's value in few words.

    >>> plain('{"class_path": "torch.optim.Adam", "init_args": {"lr": 0.001}}'), plain(1 / 3)
    ('Adam, lr: 0.001', '0.3333')
    """
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return re.sub(r'[{}"]|(class_path|init_args)"?: |([a-z_]\w*\.)+', "", text) if text.startswith("{") else text
