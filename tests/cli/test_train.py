import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tifffile
import torch
from config_files import QUICKSTART, ROOT
from small_runs import SMALL, Run, Small

Refusal = Callable[..., str]

FOLDER = Path("runs/quickstart/version_0")


def record(folder: Path | str, stage: str) -> dict:
    return json.loads((Path(folder) / "record.json").read_text())[stage]


def test_quickstart_ends_with_a_table_and_says_where_everything_is(quickstart: Path) -> None:
    said = (quickstart / "said").read_text()
    for row in ("pixel accuracy", "foreground IoU", "DSB score", "objects found / true", "The overlays lie in runs"):
        assert row in said
    # It was typed with --ckpt_path last.
    assert "Nothing to resume" in said
    folder = quickstart / FOLDER
    assert len(list((folder / "overlays").glob("*.png"))) == 3
    assert (record(folder, "fit")["epochs"], record(folder, "fit")["annotation"]) == (1, "original")
    assert record(folder, "test")["metrics"]["test/objects_true"] > 0


def test_predict_writes_original_sizes_whatever_the_network_saw(run: Run, trained: list[object]) -> None:
    assert run("predict", *trained, "--data.init_args.image_size", 32, "--out", "answer") == 0
    shapes = {tifffile.imread(path).shape for path in Path("answer/labels").glob("*.tif")}
    assert shapes == {(64, 64), (64, 80)}
    with Path("answer/counts.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 3


def test_resume_goes_on_in_the_same_folder_and_loses_nothing(run: Run, trained: list[object]) -> None:
    first = (FOLDER / "metrics.csv").read_text()
    assert run("fit", *trained, "--trainer.max_epochs", 3, "--ckpt_path", "last") == 0
    assert [path.name for path in FOLDER.parent.iterdir()] == ["version_0"]
    assert (FOLDER / "metrics-before-resume.csv").read_text() == first
    assert (FOLDER / "config.yaml").exists() and (FOLDER / "config-2.yaml").exists()
    fit = record(FOLDER, "fit")
    assert (fit["epochs"], fit["steps"]) == (3, 3)


@pytest.mark.slow
def test_last_is_the_last_epoch_though_nothing_was_better(run: Run, small: Small) -> None:
    # The number of true objects never changes, so that the first epoch stays the best.
    constant = ["--checkpoint.monitor", "val/objects_true", "--checkpoint.mode", "max"]
    args = [*small(QUICKSTART), *constant, "--trainer.max_epochs", 3, "--test_after_fit", "false"]
    assert run("fit", *args) == 0
    epochs = {
        path.stem: torch.load(path, weights_only=True)["epoch"] for path in (FOLDER / "checkpoints").glob("*.ckpt")
    }
    assert epochs == {"best": 0, "last": 2}
    assert run("test", *args) == 0
    assert record(FOLDER / "test", "test")["checkpoint"].endswith("best.ckpt")


def test_a_second_run_gets_a_folder_of_its_own(run: Run, trained: list[object]) -> None:
    # And both of these work on any CPU.
    assert run("fit", *trained, "--trainer.precision", "bf16-mixed", "--model.init_args.channels_last", "true") == 0
    assert {path.name for path in FOLDER.parent.iterdir()} == {"version_0", "version_1"}


@pytest.mark.slow
def test_a_test_after_fit_is_one_of_the_averaged_weights(run: Run) -> None:
    average = ["--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging"]
    average += ["--trainer.callbacks.init_args.decay", 0.9, "--trainer.max_epochs", 1]
    assert run("fit", *SMALL, *average, "--test_after_fit", "true") == 0
    assert run("test", *SMALL) == 0
    assert record(FOLDER / "test", "test")["metrics"] == record(FOLDER, "test")["metrics"]


def test_rotations_two_passes_and_blocks_are_an_option_each(run: Run, trained: list[object]) -> None:
    # After one step the probability of foreground is much the same everywhere.
    trained = [*trained, "--model.init_args.postprocessing.init_args.threshold", 0.48]
    assert run("test", *trained, "--out", "once") == 0
    once = record("once", "test")["metrics"]
    for option, value in (("rotations", "true"), ("rescale_to", 90), ("blocks", "karyon.inference.blocks.Blocks")):
        assert run("test", *trained, f"--model.init_args.{option}", value, "--out", option) == 0
        again = record(option, "test")["metrics"]
        if option == "blocks":
            # Whose loss would be another; of an image that is one block the objects are the same.
            assert {**{key: value for key, value in once.items() if "/loss" in key}, **again} == pytest.approx(once)
            assert "test/loss" not in again
        else:
            assert once["test/loss"] == pytest.approx(again["test/loss"]) and once != again


def test_a_config_of_an_earlier_release_still_works(run: Run, trained: list[object]) -> None:
    text = (FOLDER / "config.yaml").read_text()
    foreground = "representations.foreground."
    for today, before in (
        (
            f"karyon.{foreground}postprocessing.ForegroundPostprocessing",
            f"lightning_modules.{foreground}ForegroundDecoder",
        ),
        (f"karyon.{foreground}loss.", f"lightning_modules.{foreground}"),
        ("karyon.networks.", "lightning_modules.networks."),
        ("karyon.losses.", "lightning_modules.losses."),
        ("    postprocessing:", "    decoder:"),
    ):
        assert today in text
        text = text.replace(today, before)
    Path("old.yaml").write_text(text)
    assert run("test", "--config", "old.yaml", "--out", "again") == 0
    assert record("again", "test")["metrics"] == record(FOLDER, "test")["metrics"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--ckpt_path", "best"], "error: fit goes on from a run's last state: give --ckpt_path last, or a file."),
        (["--model.init_args.network.init_args.dropout", "[0.1]"], "give one rate a width"),
    ],
)
def test_what_fit_cannot_do_is_one_sentence(refusal: Refusal, small: Small, args: list[object], said: str) -> None:
    assert said in refusal("fit", *small(QUICKSTART), *args)


def test_missing_data_says_how_to_point_at_it(refusal: Refusal) -> None:
    said = refusal("fit", "--config", ROOT / "configs" / "reference" / "r3-unet.yaml", "--trainer.max_epochs", 1)
    for part in ("data/dsb2018", "--data.init_args.root", "--data.init_args.download true"):
        assert part in said


def test_testing_before_training_and_with_a_broken_checkpoint_is_refused(refusal: Refusal, small: Small) -> None:
    for command in ("test", "tune"):
        assert "train first" in refusal(command, *small(QUICKSTART))
    for content in (b"", b"not a checkpoint"):
        Path("broken.ckpt").write_bytes(content)
        said = refusal("test", *small(QUICKSTART), "--ckpt_path", "broken.ckpt")
        assert "broken.ckpt is not a readable checkpoint" in said


def test_a_checkpoint_of_another_architecture_is_refused(refusal: Refusal, trained: list[object]) -> None:
    network = "--model.init_args.network.init_args"
    other = [f"{network}.widths", "[8,16]", f"{network}.dropout", "[0,0]"]
    assert "another architecture" in refusal("test", *trained, *other)


def test_bad_data_in_a_worker_gives_one_sentence(refusal: Refusal) -> None:
    for folder in ("images", "labels"):
        Path("mine", folder).mkdir(parents=True)
        for name in "abcdefghij":
            Path("mine", folder, f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n cut short " + name.encode())
    args = ["--config", ROOT / "configs" / "folder.yaml", "--data.init_args.root", "mine"]
    assert ".png cannot be read" in refusal("fit", *args, "--data.init_args.num_workers", 1)


def test_help_and_typos(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run("fit", "--help")
    said = capsys.readouterr().out
    for argument in ("--config", "--name", "--checkpoint.monitor", "--test_after_fit", "--ckpt_path"):
        assert argument in said
    assert run("fit", "--config", QUICKSTART, "--trainer.max_epohcs", 1) == 2
    assert capsys.readouterr().err.startswith(
        "error: max_epohcs is not an option of trainer: the nearest is max_epochs"
    )
