import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from config_files import ROOT

Run = Callable[..., int]
Small = Callable[[Path], list[object]]

QUICKSTART = ROOT / "configs" / "quickstart.yaml"
KNOBS = Path("runs/quickstart/version_0/checkpoints/best.knobs.json")
THRESHOLD = "--model.init_args.decoder.init_args.threshold"


@pytest.fixture
def trained(run: Run, small: Small) -> list[object]:
    args = [*small(QUICKSTART), "--test_after_fit", "false"]
    assert run("fit", *args) == 0
    return args


def used_threshold(folder: str) -> float:
    """The decoder's threshold in the config that a command has written down."""
    config = yaml.safe_load((Path("runs/quickstart/version_0") / folder / "config.yaml").read_text())
    return config["model"]["init_args"]["decoder"]["init_args"]["threshold"]


def test_tuned_knobs_are_stored_and_used_unless_the_command_line_says_otherwise(
    run: Run, trained: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run("tune", *trained, THRESHOLD, 0.99, "--metric", "iou") == 0
    printed = capsys.readouterr().out
    found = json.loads(KNOBS.read_text())
    assert f"iou on {found['images']} validation images: " in printed
    # Barely trained, nothing is as sure as .99, so that any lower threshold is better.
    assert found["before"] < found["after"]
    assert found["knobs"]["threshold"] < 0.99
    assert found["metric"] == "iou"

    for command in ("validate", "test", "predict"):
        assert run(command, *trained) == 0
        assert used_threshold(command) == found["knobs"]["threshold"]
        assert "Tuned knobs of" in capsys.readouterr().out
    # A file of the user's does not name the knob by accident; the command line does so on purpose.
    assert run("validate", *trained, THRESHOLD, 0.45) == 0
    assert used_threshold("validate") == 0.45


def test_validation_reaches_what_tuning_promises(
    run: Run, trained: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run("tune", *trained, "--metric", "miou") == 0
    promised = json.loads(KNOBS.read_text())["after"]
    assert run("validate", *trained) == 0
    record = json.loads(Path("runs/quickstart/version_0/validate/record.json").read_text())
    assert record["val"]["metrics"]["val/miou"] == promised
    assert not list(tmp_path.glob("karyon-maps-*"))


def test_a_runs_own_config_is_all_that_evaluation_needs(run: Run, trained: list[object]) -> None:
    for command in ("tune", "validate"):
        assert run(command, "--config", "runs/quickstart/version_0/config.yaml") == 0
    assert KNOBS.exists()


def test_knobs_of_another_checkpoint_or_decoder_are_left_aside(
    run: Run, trained: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("tune", *trained, THRESHOLD, 0.99, "--metric", "iou") == 0
    tuned = json.loads(KNOBS.read_text())["knobs"]["threshold"]
    watershed = "lightning_modules.representations.foreground.WatershedDecoder"
    assert run("validate", *trained, "--model.init_args.decoder", watershed) == 0
    assert "another decoder" in capsys.readouterr().out

    checkpoint = KNOBS.with_name("best.ckpt")
    torch.save(torch.load(checkpoint, weights_only=True) | {"again": 1}, checkpoint)
    assert run("validate", *trained, THRESHOLD, 0.45) == 0
    assert "an earlier best.ckpt" in capsys.readouterr().out
    assert (used_threshold("validate"), tuned) == (0.45, tuned)


def test_blocks_are_refused(run: Run, trained: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tune", *trained, "--model.init_args.blocks", "lightning_modules.blocks.Blockwise") == 2
    assert "tune decodes whole images: leave model.init_args.blocks out." in capsys.readouterr().err


def test_images_that_were_trained_on_are_refused(
    run: Run, trained: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("tune", *trained, "--data.init_args.train_on_validation", "true") == 2
    assert "trained on the validation images, which tell nothing of its knobs" in capsys.readouterr().err


def test_damaged_knobs_and_unknown_metrics_are_one_sentence(
    run: Run, trained: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("tune", *trained, "--metric", "beauty") == 2
    assert "There is no metric beauty to tune by: choose one of dsb_score" in capsys.readouterr().err
    assert not KNOBS.exists()
    KNOBS.write_text("{")
    assert run("test", *trained) == 2
    assert "is no readable file of tuned knobs: delete it" in capsys.readouterr().err


def test_tuning_without_a_checkpoint_says_to_train(run: Run, small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tune", *small(QUICKSTART)) == 2
    assert "train first" in capsys.readouterr().err


def test_membranes_threshold_is_set_by_validation(run: Run, small: Small) -> None:
    config = ROOT / "configs" / "isbi2012" / "unet.yaml"
    args = small(config)
    assert run("fit", *args) == 0
    assert run("tune", *args) == 0
    found = json.loads(Path("runs/isbi-unet/version_0/checkpoints/best.knobs.json").read_text())
    (scores,) = found["config"]["model"]["init_args"]["metrics"]
    with Path("runs/isbi-unet/version_0/tune/metrics.csv").open(newline="") as file:
        best = float(list(csv.DictReader(file))[-1]["val/v_rand_threshold"])
    assert scores["init_args"]["threshold"] == pytest.approx(best)
    assert run("test", *args) == 0
    record = json.loads(Path("runs/isbi-unet/version_0/test/record.json").read_text())["test"]["metrics"]
    assert record["test/v_rand_fixed"] <= record["test/v_rand"]
