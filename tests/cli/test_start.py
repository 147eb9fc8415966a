"""A training can begin with the weights of another model."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from config_files import ROOT
from small_runs import SMALL

from lightning_modules.trained import checkpoint_weights

Run = Callable[..., int]
Small = Callable[[Path], list[object]]

FIRST = Path("runs/first/version_0/checkpoints/best.ckpt")
SECOND = Path("runs/second/version_0/checkpoints/last.ckpt")
# Nothing is learned: what the training ends with is what it began with.
STILL = ["--name", "second", "--model.init_args.optimizer.init_args.lr", "0", "--trainer.max_epochs", 1]


@pytest.fixture
def first(run: Run) -> Path:
    assert run("fit", *SMALL, "--name", "first", "--trainer.max_epochs", 1, "--test_after_fit", "false") == 0
    return FIRST


def parameters(checkpoint: Path) -> dict[str, torch.Tensor]:
    return {name: value for name, value in checkpoint_weights(checkpoint).items() if name.endswith(("weight", "bias"))}


@pytest.mark.parametrize("kind", ["checkpoint", "bundle"])
def test_weights_are_those_of_another_model(
    kind: str, run: Run, first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = first
    if kind == "bundle":
        source = Path("bundle")
        assert run("export", first, "--out", source) == 0
    assert run("fit", *SMALL, *STILL, "--test_after_fit", "false", "--start_from", source) == 0
    assert f"Starting from {source}." in capsys.readouterr().out
    torch.testing.assert_close(parameters(SECOND), parameters(first), rtol=1e-3, atol=1e-4)
    # Its own config is still all that a later command needs, even if the other model is gone.
    first.unlink()
    assert run("validate", "--config", SECOND.parents[1] / "config.yaml") == 0
    assert "Starting from" not in capsys.readouterr().out


def test_a_run_that_goes_on_goes_on_from_its_own(run: Run, first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = [*SMALL, "--name", "second", "--test_after_fit", "false", "--start_from", first, "--ckpt_path", "last"]
    assert run("fit", *start, "--trainer.max_epochs", 1) == 0
    assert "Starting from" in capsys.readouterr().out
    assert run("fit", *start, "--trainer.max_epochs", 2) == 0
    assert "Starting from" not in capsys.readouterr().out


def test_nothing_is_downloaded_to_be_overwritten(run: Run, small: Small) -> None:
    config = ROOT / "configs" / "finetune.yaml"
    network = "model.init_args.network.init_args.pretrained"
    assert run("fit", *small(config), f"--{network}", "imagenet") == 0
    saved = yaml.safe_load(Path("runs/finetune/version_0/config.yaml").read_text())
    assert saved["model"]["init_args"]["network"]["init_args"]["pretrained"] == "none"
    assert saved["start_from"] == "nuclei"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nuclei", "is of another architecture than the config says"),
        ("unheard", "There is no model unheard: name the folder of a bundle, or a model of Karyon's (nuclei,"),
        ("none.ckpt", "There is no checkpoint none.ckpt"),
    ],
)
def test_what_cannot_be_started_from_is_one_sentence(
    run: Run, capsys: pytest.CaptureFixture[str], source: str, said: str
) -> None:
    assert run("fit", *SMALL, "--start_from", source) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert said in line and not list(Path("runs").glob("*/version_*"))
