"""Sweep files in W&B's form: what Optuna makes of them, and that W&B and the CLI accept those of the project."""

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from config_files import ROOT, SWEEPS
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import GridSampler, RandomSampler, TPESampler
from wandb.apis.public.sweeps import _validate_config_and_fill_distribution
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from cli.sweep_study import Sweep, read_sweep
from karyon.errors import DataError

Run = Callable[..., int]
Small = Callable[[Path], list[object]]

FOLDER = ROOT / "configs" / "sweeps"
R4 = FOLDER / "r4-optimizers.yaml"
METHODS = ("grid", "random", "bayes")


@pytest.fixture(autouse=True)
def project_folder(tmp_path: Path) -> None:
    """Sweep files name configs from the project's folder."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")


def values(entry: dict[str, Any]) -> list[Any]:
    """What a parameter may be; of a range its two ends."""
    return entry.get("values") or [entry["value"]] if "min" not in entry else [entry["min"], entry["max"]]


def arguments(sweep: Path, parameters: dict[str, Any]) -> list[str]:
    """What follows ``python -m cli`` in a trial's command, as W&B's agent spells it."""
    words = read_sweep(sweep).words(parameters)
    assert words[0] == "/usr/bin/env" and words[2:4] == ["-m", "cli"]
    return words[4:]


def sweep_of(parameters: Any, **further: Any) -> Sweep:
    content = {"method": "random", "metric": {"name": "s", "goal": "maximize"}, "command": ["fit", "${args}"]}
    return Sweep.model_validate({**content, "parameters": parameters, **further})


@pytest.mark.parametrize(
    ("entry", "distribution"),
    [
        ({"value": 3}, None),
        ({"values": [1, "a", True, None, [8, 16]]}, CategoricalDistribution((1, "a", True, "None", "[8, 16]"))),
        ({"values": [1, 2], "distribution": "categorical"}, CategoricalDistribution((1, 2))),
        ({"min": 1, "max": 4}, IntDistribution(1, 4)),
        ({"min": 1, "max": 4, "distribution": "uniform"}, FloatDistribution(1, 4)),
        ({"min": 0, "max": 0.5}, FloatDistribution(0, 0.5)),
        ({"min": 0, "max": 8, "q": 2, "distribution": "q_uniform"}, FloatDistribution(0, 8, step=2)),
        ({"min": 0.001, "max": 1, "distribution": "log_uniform_values"}, FloatDistribution(0.001, 1, log=True)),
        ({"min": -2, "max": 0, "distribution": "log_uniform"}, FloatDistribution(math.exp(-2), 1, log=True)),
    ],
)
def test_each_distribution_is_one_of_optuna(entry: dict[str, Any], distribution: Any) -> None:
    assert sweep_of({"a": entry}).space == ({"a": distribution} if distribution else {})


def test_methods_are_samplers_and_hyperband_a_pruner() -> None:
    grid = sweep_of({"b": {"values": [1, 2]}, "a": {"min": 1, "max": 3}, "c": {"value": 0}}, method="grid")
    assert grid.grid == {"a": [1, 2, 3], "b": [1, 2]} and grid.size() == 6
    assert sweep_of({"a": {"min": 1, "max": 3}}, method="grid", run_cap=2).size() == 2
    samplers = {method: type(sweep_of({"a": {"values": [1]}}, method=method).sampler(0)) for method in METHODS}
    assert samplers == {"grid": GridSampler, "random": RandomSampler, "bayes": TPESampler}
    # W&B's brackets of 27 validations at most, with s of 2: after 3 and 9.
    for asked in {"min_iter": 3}, {"max_iter": 27, "s": 2}:
        pruner = sweep_of({"a": {"values": [1]}}, early_terminate={"type": "hyperband", **asked}).pruner()
        judged = [step for step in range(1, 28) if lags_at(pruner, step)]
        assert judged[:2] == [3, 4] and not lags_at(pruner, 2)


def lags_at(pruner: optuna.pruners.BasePruner, step: int) -> bool:
    """Whether a trial that is worse than another is stopped when its first report is made at this step."""
    study = optuna.create_study(direction="maximize", pruner=pruner)
    for value in (0.9, 0.1):
        trial = study.ask()
        trial.report(value, step)
        lags = trial.should_prune()
    return lags


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_draws_depend_on_the_trials_so_far_alone(method: str) -> None:
    sweep = sweep_of({"a": {"min": 0.0, "max": 1.0}}, method=method)
    first, second = drawn(sweep, 3), drawn(sweep, 3)
    assert first == second and len(set(first)) == 3


def test_bayes_looks_where_it_was_good() -> None:
    """Of a score that is best at .8, the later trials are nearer than draws at random would be, 0.34 on average."""
    later = drawn(sweep_of({"a": {"min": 0.0, "max": 1.0}}, method="bayes"), 30)[15:]
    assert sum(abs(value - 0.8) for value in later) / len(later) < 0.17


def drawn(sweep: Sweep, count: int) -> list[float]:
    """What a sampler of its own for each trial, as in processes that share a study, draws one after the other."""
    study = optuna.create_study(direction=sweep.goal)
    values = []
    for number in range(count):
        study.sampler = sweep.sampler(number)
        trial = study.ask(sweep.space)
        values.append(trial.params["a"])
        study.tell(trial, -((values[-1] - 0.8) ** 2))
    return values


@pytest.mark.parametrize("args", ["${args}", "${args_no_equals}"])
def test_a_command_is_that_of_wandbs_agent(args: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIZE", "64")
    command = ["${env}", "${interpreter}", "-m", "${program}", "fit", "--size=${envvar:SIZE}", 3, args]
    sweep = sweep_of({"b": {"values": [0.5, [1]]}, "a": {"value": True}}, command=command, program="cli")
    agents = create_sweep_command_args({"args": {"a": {"value": True}, "b": {"value": 0.5}}})[args[2:-1]]
    words = [*map(str, create_sweep_command([*command[3:-1]])), *agents]
    assert sweep.words(sweep.given({"b": 0.5})) == ["/usr/bin/env", sys.executable, "-m", "cli", *words[1:]]


VALUES = {"values": [1, 2]}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"method": "bayesian"}, "(method Input should be 'grid', 'random' or 'bayes')"),
        ({"comand": ["python"]}, "(comand is not supported)"),
        ({"scheduler": {"engine": "ax"}}, "(scheduler is not supported)"),
        ({"metric": {"name": "a", "target": 1}}, "(metric.target is not supported)"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1, "strict": True}}, "(early_terminate.strict is not"),
        ({"early_terminate": {"type": "hyperband"}}, "early_terminate takes either min_iter, or max_iter and s"),
        ({"parameters": {"lr": {**VALUES, "probabilities": [1, 0]}}}, "(parameters.lr.probabilities is not supported)"),
        ({"parameters": {"lr": {"distribution": "normal", "mu": 0}}}, "(parameters.lr.mu is not supported)"),
        ({"parameters": {"lr": {"distribution": "beta"}}}, "(parameters.lr the distribution beta is not supported"),
        ({"parameters": {"lr": {"min": "1e-4", "max": 0.1}}}, "(parameters.lr.min '1e-4' is not a number"),
        ({"parameters": {"lr": {"min": 1, "max": 0}}}, "(parameters.lr `low <= high` must hold"),
        ({"parameters": {"lr": {"min": 1}}}, "(parameters.lr uniform takes max and min, not min)"),
        ({"parameters": {"lr": {**VALUES, "min": 1}}}, "categorical takes values, not min, values)"),
        ({"parameters": None}, "(parameters Input should be a valid dictionary)"),
        ({"method": "grid", "parameters": {"lr": {"min": 0.1, "max": 0.2}}}, "(lr of parameters is a range"),
        ({"method": "bayes", "metric": None}, "(metric is missing: bayes"),
        ({"command": ["${interpreter}", "train.py", "${args}"]}, "(command does not hand ${args} to python -m cli fit"),
        ({"command": ["fit", "${args}", "${args_json_file}"]}, "(${args_json_file} of command is not supported"),
    ],
)
def test_a_key_that_is_wrong_or_not_supported_is_named(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    content = {"method": "random", "command": ["fit", "${args}"], "metric": {"name": "s"}, "parameters": {"lr": VALUES}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**content, **changes}))
    with pytest.raises(DataError, match="mine") as refusal:
        read_sweep(tmp_path / "mine.yaml")
    assert sentence in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [None, "a: [", "just words"])
def test_what_is_not_a_sweep_file_is_named(content: str | None, tmp_path: Path) -> None:
    if content:
        (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(DataError, match="mine"):
        read_sweep(tmp_path / "mine.yaml")


def test_each_method_has_its_file() -> None:
    content = {path.stem: yaml.safe_load(path.read_text()) for path in SWEEPS}
    assert {name: entry["method"] for name, entry in content.items()} == {
        "r4-optimizers": "grid",
        "unet": "bayes",
        "detector": "random",
    }
    assert content["detector"]["early_terminate"]["type"] == "hyperband"


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda path: path.name)
def test_wandb_accepts_it(sweep: Path) -> None:
    content = yaml.safe_load(sweep.read_text())
    # What its client checks: a range is one of integers or one of floats.
    filled = _validate_config_and_fill_distribution(content)
    # The agent hands the parameters over by the alphabet, and a config must come before what it sets.
    names = list(filled["parameters"])
    assert names == sorted(names) and ("config" not in names or names[0] == "config")
    # The logger's own project does not count in a sweep.
    assert (content["project"], content["program"]) == ("karyon", "cli")


@pytest.mark.parametrize("sweep", [sweep for sweep in SWEEPS if sweep != R4], ids=lambda path: path.name)
def test_every_value_is_accepted_and_lands_where_it_belongs(
    sweep: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    choices = {name: values(entry) for name, entry in yaml.safe_load(sweep.read_text())["parameters"].items()}
    # Each value once; parameters with fewer begin anew.
    for number in range(max(map(len, choices.values()))):
        parameters = {name: found[number % len(found)] for name, found in choices.items()}
        check_accepted(sweep, parameters, run, capsys)


@pytest.mark.slow
def test_every_cell_of_r4_is_a_command_of_its_own(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for cell in cells():
        config = check_accepted(R4, cell, run, capsys)
        network = {"r4-unet": "UNet", "r4-segnet": "SegNet"}[Path(cell["config"]).stem]
        assert config["model"]["init_args"]["network"]["class_path"].endswith(f".{network}")


def check_accepted(
    sweep: Path, parameters: dict[str, Any], run: Run, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """Types a trial's command; returns the config that comes of it."""
    with pytest.raises(SystemExit) as end:
        run(*arguments(sweep, parameters), "--print_config")
    printed = capsys.readouterr()
    assert end.value.code == 0, printed.err
    config: dict[str, Any] = yaml.safe_load(printed.out)
    for name, value in parameters.items():
        if name != "config":
            check_lands(config, name, value)
    return config


def check_lands(config: dict[str, Any], name: str, value: Any) -> None:
    found: Any = config
    for part in name.split("."):
        found = found[part]
    # A value may be YAML in a text.
    wanted = yaml.safe_load(str(value)) if isinstance(value, str) else value
    if isinstance(wanted, dict):
        assert found["class_path"] == wanted["class_path"]
        assert wanted["init_args"].items() <= found["init_args"].items()
    else:
        assert found == pytest.approx(wanted)


def test_a_parameter_that_does_not_exist_is_not_accepted(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    unet = FOLDER / "unet.yaml"
    assert run(*arguments(unet, {"model.init_args.learning_rate": 0.1}), "--print_config") == 2
    assert "learning_rate" in capsys.readouterr().err


def cells() -> Iterator[dict[str, Any]]:
    """The grid of R4's sweep."""
    choices = {name: values(entry) for name, entry in yaml.safe_load(R4.read_text())["parameters"].items()}
    for chosen in itertools.product(*choices.values()):
        yield dict(zip(choices, chosen, strict=True))


def test_the_grid_holds_the_nine_cells_of_r4() -> None:
    held = set()
    for cell in cells():
        optimizer = yaml.safe_load(cell["model.init_args.optimizer"])
        name = optimizer["class_path"].removeprefix("torch.optim.")
        held.add((Path(cell["config"]).stem.removeprefix("r4-"), name, optimizer["init_args"]["lr"]))
    unet = {
        ("unet", *c) for c in [("SGD", 1e-4), ("SGD", 1e-3), ("Adagrad", 1e-4)] + [("Adam", 10**-k) for k in (4, 3, 2)]
    }
    segnet = {("segnet", "SGD", 1e-4), ("segnet", "Adam", 1e-4), ("segnet", "Adam", 1e-3)}
    assert unet | segnet <= held
    assert read_sweep(R4).size() == len(held) == 12


def test_a_cell_trains(run: Run, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    *_, cell = (cell for cell in cells() if cell["config"].endswith("unet.yaml"))
    _, _, *shrunk = small(ROOT / cell["config"])
    assert run(*arguments(R4, cell), *shrunk, "--test_after_fit", "false") == 0
    saved = yaml.safe_load((tmp_path / "runs" / "r4-unet" / "version_0" / "config.yaml").read_text())
    assert saved["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 1e-2
    assert saved["trainer"]["logger"]["class_path"] == "lightning_modules.wandb_logger.RunLogger"
