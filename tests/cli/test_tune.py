import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from small_runs import Run

FOLDER = Path("runs/quickstart/version_0")
TUNED = FOLDER / "checkpoints" / "best.parameters.json"
THRESHOLD = "--model.init_args.postprocessing.init_args.threshold"


@pytest.fixture
def tuned(run: Run, trained: list[object], capsys: pytest.CaptureFixture[str]) -> list[object]:
    """Arguments of a run that was tuned, beginning with a threshold that is far too high."""
    assert run("tune", *trained, THRESHOLD, 0.99, "--metric", "iou") == 0
    return trained


def used_threshold(command: str) -> float:
    """The threshold in the config that a command has written down."""
    config = yaml.safe_load((FOLDER / command / "config.yaml").read_text())
    return config["model"]["init_args"]["postprocessing"]["init_args"]["threshold"]


def test_tuned_parameters_are_stored_and_used_unless_the_command_line_says_otherwise(
    run: Run, tuned: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(TUNED.read_text())
    assert f"iou on {found['images']} validation images: " in capsys.readouterr().out
    # Barely trained, nothing is as sure as .99, so that any lower threshold is better.
    assert found["before"] < found["after"] and found["metric"] == "iou"
    assert found["parameters"]["threshold"] < 0.99

    for command in ("validate", "test", "predict"):
        assert run(command, *tuned) == 0
        assert used_threshold(command) == found["parameters"]["threshold"]
        assert "Tuned parameters of" in capsys.readouterr().out
    # A file of the user's does not name the parameter by accident; the command line does so on purpose.
    assert run("validate", *tuned, THRESHOLD, 0.45) == 0
    assert used_threshold("validate") == 0.45


def test_validation_reaches_what_tuning_promises_and_the_runs_own_config_is_all_that_it_needs(
    run: Run, trained: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for command in (("tune", "--metric", "miou"), ("validate",)):
        assert run(*command, "--config", FOLDER / "config.yaml") == 0
    validated = json.loads((FOLDER / "validate" / "record.json").read_text())
    assert validated["val"]["metrics"]["val/miou"] == json.loads(TUNED.read_text())["after"]
    assert not list(tmp_path.glob("karyon-maps-*"))


@pytest.mark.slow
def test_parameters_of_another_checkpoint_or_postprocessing_are_left_aside(
    run: Run, tuned: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    watershed = "karyon.representations.foreground.postprocessing.WatershedPostprocessing"
    assert run("validate", *tuned, "--model.init_args.postprocessing", watershed) == 0
    assert "another postprocessing" in capsys.readouterr().out
    # A file of before is read under its name of before.
    content = json.loads(TUNED.read_text())
    content["knobs"] = content.pop("parameters")
    TUNED.with_name("best.knobs.json").write_text(json.dumps(content))
    TUNED.unlink()
    assert run("validate", *tuned) == 0
    assert used_threshold("validate") == content["knobs"]["threshold"]

    checkpoint = TUNED.with_name("best.ckpt")
    torch.save(torch.load(checkpoint, weights_only=True) | {"again": 1}, checkpoint)
    assert run("validate", *tuned, THRESHOLD, 0.45) == 0
    assert "an earlier best.ckpt" in capsys.readouterr().out
    assert used_threshold("validate") == 0.45


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--model.init_args.blocks", "karyon.inference.blocks.Blocks"], "leave model.init_args.blocks and rescale_to"),
        (["--model.init_args.rescale_to", 30], "leave model.init_args.blocks and rescale_to out."),
        (["--data.init_args.train_on_validation", "true"], "trained on the validation images, which tell nothing of"),
        (["--metric", "beauty"], "There is no metric beauty to tune by: choose one of dsb_score"),
    ],
)
def test_what_cannot_be_tuned_is_one_sentence(
    refusal: Callable[..., str], trained: list[object], args: list[object], said: str
) -> None:
    assert said in refusal("tune", *trained, *args)
    assert not TUNED.exists()


def test_damaged_parameters_are_one_sentence(refusal: Callable[..., str], trained: list[object]) -> None:
    TUNED.write_text("{")
    assert "is not a readable file of tuned parameters: delete it" in refusal("test", *trained)
