"""Every cell of a sweep is a command line that the CLI accepts."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_files import ROOT, SWEEPS

Run = Callable[..., int]
Small = Callable[[Path], list[object]]

R4 = ROOT / "configs" / "sweeps" / "r4-optimizers.yaml"


def cells(sweep: Path) -> Iterator[dict[str, Any]]:
    """The grid of a W&B sweep, spelled out as an agent does."""
    parameters = yaml.safe_load(sweep.read_text())["parameters"]
    choices = [entry["values"] if "values" in entry else [entry["value"]] for entry in parameters.values()]
    for values in itertools.product(*choices):
        yield dict(zip(parameters, values, strict=True))


def arguments(cell: dict[str, Any]) -> list[str]:
    # The agent hands ${args} over as --key=value, in the order of the file.
    return [f"--{key}={ROOT / value if key == 'config' else value}" for key, value in cell.items()]


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda path: path.name)
def test_every_cell_is_accepted(sweep: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for cell in cells(sweep):
        with pytest.raises(SystemExit) as end:
            run("fit", *arguments(cell), "--print_config")
        assert end.value.code == 0
        config = yaml.safe_load(capsys.readouterr().out)
        optimizer = yaml.safe_load(cell["model.init_args.optimizer"])
        assert config["model"]["init_args"]["optimizer"]["class_path"] == optimizer["class_path"]
        assert config["model"]["init_args"]["optimizer"]["init_args"]["lr"] == optimizer["init_args"]["lr"]


def test_the_grid_holds_the_nine_cells_of_r4() -> None:
    held = set()
    for cell in cells(R4):
        optimizer = yaml.safe_load(cell["model.init_args.optimizer"])
        name = optimizer["class_path"].removeprefix("torch.optim.")
        held.add((Path(cell["config"]).stem.removeprefix("r4-"), name, optimizer["init_args"]["lr"]))
    unet = {
        ("unet", *c) for c in [("SGD", 1e-4), ("SGD", 1e-3), ("Adagrad", 1e-4)] + [("Adam", 10**-k) for k in (4, 3, 2)]
    }
    segnet = {("segnet", "SGD", 1e-4), ("segnet", "Adam", 1e-4), ("segnet", "Adam", 1e-3)}
    assert unet | segnet <= held


def test_a_cell_trains(run: Run, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    *_, cell = (cell for cell in cells(R4) if cell["config"].endswith("unet.yaml"))
    config, *rest = arguments(cell)
    _, _, *shrunk = small(Path(config.removeprefix("--config=")))
    assert run("fit", config, *rest, *shrunk, "--test_after_fit", "false") == 0
    saved = yaml.safe_load((tmp_path / "runs" / "r4-unet" / "version_0" / "config.yaml").read_text())
    assert saved["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 1e-2
    assert saved["trainer"]["logger"]["class_path"] == "lightning.pytorch.loggers.WandbLogger"
