"""A training can begin with the weights of another model."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from config_files import ROOT
from jsonargparse import Namespace
from small_runs import SMALL, Run, Small

from cli.weights import initial_weights
from karyon.checkpoint import checkpoint_weights

FIRST = Path("runs/quickstart/version_0/checkpoints/best.ckpt")
SECOND = Path("runs/second/version_0/checkpoints/last.ckpt")
# Nothing is learned: what the training ends with is what it began with.
STILL = ["--name", "second", "--model.init_args.optimizer.init_args.lr", "0", "--trainer.max_epochs", 1]


def parameters(checkpoint: Path) -> dict[str, torch.Tensor]:
    return {name: value for name, value in checkpoint_weights(checkpoint).items() if name.endswith(("weight", "bias"))}


@pytest.mark.parametrize("source", [FIRST, Path("bundle")], ids=["checkpoint", "bundle"])
def test_weights_are_those_of_another_model(
    source: Path, run: Run, trained: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    if source != FIRST:
        assert run("export", FIRST, "--out", source) == 0
    assert run("fit", *trained, *STILL, "--start_from", source) == 0
    assert f"Initial weights: {source}." in capsys.readouterr().out
    torch.testing.assert_close(parameters(SECOND), parameters(FIRST), rtol=1e-3, atol=1e-4)
    assert json.loads((SECOND.parents[1] / "record.json").read_text())["fit"]["initial_weights"] == str(source)
    # Its own config is still all that a later command needs, even if the other model is gone.
    FIRST.unlink()
    assert run("validate", "--config", SECOND.parents[1] / "config.yaml") == 0
    assert "Initial weights" not in capsys.readouterr().out


def test_a_run_that_goes_on_goes_on_from_its_own(
    run: Run, trained: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fit", *trained, "--start_from", "nuclei", "--ckpt_path", "last", "--trainer.max_epochs", 2) == 0
    record = json.loads(Path("runs/quickstart/version_0/record.json").read_text())
    assert record["fit"]["epochs"] == 2 and record["fit"]["initial_weights"] == "random"
    assert "Initial weights" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"pretrained": "imagenet"}, "imagenet"),
        ({"backbone": {"init_args": {"pretrained": "imagenet"}}, "pretrained": "none"}, "imagenet"),
        # segmentation-models-pytorch says it in its own words, and its default is ImageNet.
        ({"encoder_weights": "imagenet"}, "imagenet"),
        ({"encoder_weights": None}, "random (encoder_weights: none)"),
        # What an overlay that names another network leaves out is that network's default.
        ({"pretrained": "none"}, "random (pretrained: none)"),
        ({"widths": [8, 16]}, "random"),
        # A network of the user's own may take a truth value.
        ({"pretrained": False}, "random (pretrained: none)"),
        ({"pretrained": True}, "True"),
    ],
)
def test_what_a_training_begins_with_is_told_from_its_config(network: dict[str, object], said: str) -> None:
    config = Namespace(start_from=None, model=Namespace(init_args=Namespace(network=Namespace(init_args=network))))
    assert initial_weights(config) == said
    assert initial_weights(Namespace(**{**vars(config), "start_from": Path("nuclei")})) == "nuclei"


@pytest.mark.slow
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
        (
            "unheard",
            "There is no model unheard: name the folder of a bundle, a run's checkpoint (.ckpt), or a model of",
        ),
        ("none.ckpt", "There is no checkpoint none.ckpt"),
    ],
)
def test_what_cannot_be_started_from_is_one_sentence(refusal: Callable[..., str], source: str, said: str) -> None:
    assert said in refusal("fit", *SMALL, "--start_from", source)
    assert not list(Path("runs").glob("*/version_*"))
