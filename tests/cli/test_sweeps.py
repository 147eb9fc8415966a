"""Every sweep file is one that W&B accepts, and each value of each of its parameters one that the CLI accepts."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_files import ROOT, SWEEPS
from wandb.apis.public.sweeps import _validate_config_and_fill_distribution

from cli.sweep_file import engine, read_sweep

Run = Callable[..., int]
Small = Callable[[Path], list[object]]

FOLDER = ROOT / "configs" / "sweeps"
R4 = FOLDER / "r4-optimizers.yaml"


@pytest.fixture(autouse=True)
def project_folder(tmp_path: Path) -> None:
    """Sweep files name configs from the project's folder."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")


def values(entry: dict[str, Any]) -> list[Any]:
    """What a parameter may be; of a range its two ends."""
    return entry.get("values") or [entry["value"]] if "min" not in entry else [entry["min"], entry["max"]]


def arguments(sweep: Path, parameters: dict[str, Any]) -> list[str]:
    """What follows ``python -m cli`` in a trial's command, as W&B's agent spells it."""
    words = read_sweep(sweep).command(parameters)
    assert words[0] == "/usr/bin/env" and words[2:4] == ["-m", "cli"]
    return words[4:]


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
    assert engine().schema_violations_from_proposed_config(content) == []
    # What its client checks beyond the schema: a range is one of integers or one of floats.
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
    with pytest.raises(SystemExit) as end:
        run(*arguments(unet, {"model.init_args.learning_rate": 0.1}), "--print_config")
    assert end.value.code == 2
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
