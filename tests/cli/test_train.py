import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tifffile
import torch
from config_files import ROOT
from small_runs import SMALL

Run = Callable[..., int]
Small = Callable[[Path], list[object]]

QUICKSTART = ROOT / "configs" / "quickstart.yaml"


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    """The last line on stderr, which must be the one sentence."""
    lines = capsys.readouterr().err.strip().splitlines()
    assert "Traceback" not in "".join(lines)
    return lines[-1]


def test_quickstart_ends_with_a_table_and_says_where_everything_is(
    run: Run, small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fit", *small(QUICKSTART)) == 0
    printed = capsys.readouterr().out
    for row in ("pixel accuracy", "foreground IoU", "DSB score", "objects found / true", "The overlays lie in runs"):
        assert row in printed
    folder = tmp_path / "runs" / "quickstart" / "version_0"
    assert len(list((folder / "overlays").glob("*.png"))) == 3
    record = json.loads((folder / "record.json").read_text())
    assert record["fit"]["epochs"] == 1
    assert record["fit"]["annotation"] == "original"
    assert record["test"]["metrics"]["test/objects_true"] > 0


def test_predict_writes_original_sizes_whatever_the_network_saw(run: Run, small: Small, tmp_path: Path) -> None:
    args = [*small(QUICKSTART), "--data.init_args.augmentations", "[]", "--data.init_args.image_size", 32]
    assert run("fit", *args, "--test_after_fit", "false") == 0
    assert run("predict", *args, "--out", "answer") == 0
    shapes = {tifffile.imread(path).shape for path in (tmp_path / "answer" / "labels").glob("*.tif")}
    assert shapes == {(64, 64), (64, 80)}
    with (tmp_path / "answer" / "counts.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 3


def test_resume_goes_on_in_the_same_folder_and_loses_nothing(
    run: Run, small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [*small(QUICKSTART), "--test_after_fit", "false"]
    assert run("fit", *args, "--ckpt_path", "last") == 0
    assert "Nothing to resume" in capsys.readouterr().out
    folder = tmp_path / "runs" / "quickstart" / "version_0"
    first = (folder / "metrics.csv").read_text()
    assert run("fit", *args, "--trainer.max_epochs", 3, "--ckpt_path", "last") == 0
    assert [path.name for path in folder.parent.iterdir()] == ["version_0"]
    assert (folder / "metrics-before-resume.csv").read_text() == first
    assert (folder / "config.yaml").exists()
    assert (folder / "config-2.yaml").exists()
    record = json.loads((folder / "record.json").read_text())["fit"]
    assert (record["epochs"], record["steps"]) == (3, 3)


def test_last_is_the_last_epoch_though_nothing_was_better(run: Run, small: Small, tmp_path: Path) -> None:
    # The number of true objects never changes, so that the first epoch stays the best.
    constant = ["--checkpoint.monitor", "val/objects_true", "--checkpoint.mode", "max"]
    args = [*small(QUICKSTART), *constant, "--trainer.max_epochs", 3, "--test_after_fit", "false"]
    assert run("fit", *args) == 0
    folder = tmp_path / "runs" / "quickstart" / "version_0" / "checkpoints"
    epochs = {path.stem: torch.load(path, weights_only=True)["epoch"] for path in folder.glob("*.ckpt")}
    assert epochs == {"best": 0, "last": 2}
    assert run("test", *args) == 0
    record = json.loads((folder.parent / "test" / "record.json").read_text())["test"]
    assert record["checkpoint"].endswith("best.ckpt")


def test_fit_does_not_go_on_from_the_best(run: Run, small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit", *small(QUICKSTART), "--ckpt_path", "best") == 2
    assert error_of(capsys) == "error: fit goes on from a run's last state: give --ckpt_path last, or a file."


def test_a_second_run_gets_a_folder_of_its_own(run: Run, small: Small, tmp_path: Path) -> None:
    for _ in range(2):
        assert run("fit", *small(QUICKSTART), "--test_after_fit", "false") == 0
    assert {path.name for path in (tmp_path / "runs" / "quickstart").iterdir()} == {"version_0", "version_1"}


def test_a_test_behind_fit_is_one_of_the_averaged_weights(run: Run) -> None:
    average = ["--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging"]
    average += ["--trainer.callbacks.init_args.decay", 0.9, "--trainer.max_epochs", 1]
    assert run("fit", *SMALL, *average, "--test_after_fit", "true") == 0
    folder = Path("runs/quickstart/version_0")
    behind_fit = json.loads((folder / "record.json").read_text())["test"]["metrics"]
    assert run("test", *SMALL) == 0
    assert json.loads((folder / "test" / "record.json").read_text())["test"]["metrics"] == behind_fit


def test_bf16_and_channels_last_train_on_the_cpu(run: Run, small: Small) -> None:
    args = ["--trainer.precision", "bf16-mixed", "--model.init_args.channels_last", "true"]
    assert run("fit", *small(QUICKSTART), *args) == 0


INFERENCE = "lightning_modules.inference"
TILED = f"{{class_path: {INFERENCE}.Tiled, init_args: {{window: 32, overlap: 16, margin: 4, align: 16, inner: "


@pytest.mark.parametrize(
    "inference",
    [
        f"{INFERENCE}.DihedralAverage",
        f"{TILED}null}}}}",
        f"{TILED}{INFERENCE}.DihedralAverage}}}}",
        f"{{class_path: {INFERENCE}.EnlargeSmall, init_args: {{diameter: 90}}}}",
    ],
)
def test_turns_tiles_and_scales_are_one_option(run: Run, small: Small, tmp_path: Path, inference: str) -> None:
    args = [*small(QUICKSTART), "--test_after_fit", "false"]
    assert run("fit", *args) == 0
    assert run("test", *args) == 0
    assert run("test", *args, "--model.init_args.inference", inference, "--out", "again") == 0
    records = [
        tmp_path / "runs" / "quickstart" / "version_0" / "test" / "record.json",
        tmp_path / "again" / "record.json",
    ]
    once, again = (json.loads(path.read_text())["test"]["metrics"] for path in records)
    assert once["test/loss"] == again["test/loss"] and once != again


def test_missing_data_says_how_to_point_at_it(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    config = ROOT / "configs" / "reference" / "r3-unet.yaml"
    assert run("fit", "--config", config, "--trainer.max_epochs", 1) == 2
    sentence = error_of(capsys)
    assert "data/dsb2018" in sentence
    assert "--data.init_args.root" in sentence
    assert "--data.init_args.download true" in sentence


def test_testing_before_training_is_refused(run: Run, small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("test", *small(QUICKSTART)) == 2
    assert "train first" in error_of(capsys)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_broken_checkpoint_is_named(
    content: bytes, run: Run, small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(content)
    assert run("test", *small(QUICKSTART), "--ckpt_path", broken) == 2
    assert f"{broken} is no readable checkpoint" in error_of(capsys)


def test_a_checkpoint_of_another_architecture_is_refused(
    run: Run, small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fit", *small(QUICKSTART), "--test_after_fit", "false") == 0
    other = [
        "--model.init_args.network.init_args.widths",
        "[8,16]",
        "--model.init_args.network.init_args.dropout",
        "[0,0]",
    ]
    assert run("test", *small(QUICKSTART), *other) == 2
    assert "another architecture" in error_of(capsys)


def test_arguments_that_a_class_refuses_give_its_sentence(
    run: Run, small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fit", *small(QUICKSTART), "--model.init_args.network.init_args.dropout", "[0.1]") == 2
    assert "give one rate a width" in error_of(capsys)


def test_bad_data_in_a_worker_gives_one_sentence(
    run: Run, small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("images", "labels"):
        (tmp_path / "mine" / folder).mkdir(parents=True)
        for name in "abcdefghij":
            (tmp_path / "mine" / folder / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n cut short " + name.encode())
    config = ROOT / "configs" / "folder.yaml"
    assert run("fit", "--config", config, "--data.init_args.root", "mine", "--data.init_args.num_workers", 1) == 2
    assert ".png cannot be read" in error_of(capsys)


def test_help_and_typos() -> None:
    command = [sys.executable, "-m", "cli", "fit"]
    done = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for argument in ("--config", "--name", "--checkpoint.monitor", "--test_after_fit", "--ckpt_path"):
        assert argument in done.stdout
    command += ["--config", str(QUICKSTART), "--trainer.max_epohcs", "1"]
    typo = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert typo.returncode == 2
    assert "max_epohcs" in typo.stderr
    assert "Traceback" not in typo.stderr
