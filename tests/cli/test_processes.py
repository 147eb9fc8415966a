"""Several processes are one run: one folder, one voice, and the figures of one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import lightning
import pytest
import torch
from config_files import ROOT
from launches import PATIENCE, exit_codes, kill, start, start_ranks, wait_for_epochs
from lightning.pytorch.utilities import rank_zero_only
from small_runs import DDP, SMALL, last, validations, version

from cli.processes import check_processes, one_voice
from karyon.errors import DataError

# Everything of a step that does not depend on how a batch is shared between processes.
PLAIN = [
    *SMALL,
    "--model.init_args.network.init_args.normalization=torch.nn.Identity",
    "--model.init_args.network.init_args.dropout=[0.0,0.0]",
    "--model.init_args.representation.init_args.loss=karyon.losses.BinaryCrossEntropy",
    "--test_after_fit=false",
    "--trainer.gradient_clip_val=0.5",
    "--trainer.max_epochs=4",
]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that one command begins in two processes, with W&B."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "cli", "fit", *SMALL, "--config", ROOT / "configs" / "logging" / "wandb.yaml"]
    command += [*DDP, "--trainer.max_epochs=6"]
    offline = {"WANDB_MODE": "offline", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("w") as log:
        streams = {"stdout": log, "stderr": log, "timeout": PATIENCE}
        done = subprocess.run(list(map(str, command)), cwd=folder, env=os.environ | offline, check=False, **streams)
    assert done.returncode == 0, (folder / "log").read_text()
    return folder


@pytest.mark.slow
def test_two_processes_have_one_folder_and_one_run_of_wandb(two: Path) -> None:
    assert (version(two) / "config.yaml").exists()
    assert len(list((two / "runs" / "wandb").glob("offline-run-*"))) == 1


@pytest.mark.slow
def test_two_processes_speak_with_one_voice_that_reads_well_in_a_file(two: Path) -> None:
    said = (two / "log").read_text()
    assert "\r" not in said
    lines = said.splitlines()
    for beginning, times in {"Seed set": 1, "Run folder": 2, "The overlays": 1}.items():
        assert sum(line.startswith(beginning) for line in lines) == times, beginning
    assert [line.split("  ")[0] for line in lines if line.startswith("epoch ")] == [f"epoch {k}/6" for k in range(1, 7)]
    assert not [line for line in lines if "Traceback" in line or "sync_dist" in line]


@pytest.mark.slow
def test_two_processes_measure_what_one_does(two: Path) -> None:
    """Three images are validated on, five are tested on: one of each is handed to both processes."""
    codes = exit_codes([start(two, "validate", *SMALL, log="validate"), start(two, "test", *SMALL, log="test")])
    assert codes == [0, 0]
    tested = {name: json.loads((version(two) / name / "record.json").read_text()) for name in (".", "validate", "test")}
    one, both = (tested[name]["test"]["metrics"] for name in ("test", "."))
    assert one == pytest.approx(both, abs=1e-6)
    best = max(validations(version(two)), key=lambda row: row["val/dsb_score"])
    measured = tested["validate"]["val"]["metrics"]
    assert measured == pytest.approx({key: value for key, value in best.items() if key in measured}, abs=1e-6)
    # Something was found, so that the figures say something.
    assert 0 < measured["val/dsb_score"] < 1 and "val/loss/fluorescence" in measured


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same training by one process, and by two with half of its batch each."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("one", "ddp")}
    one = start(folders["one"], "fit", *PLAIN, "--data.init_args.batch_size=4")
    assert exit_codes([one, *start_ranks(folders["ddp"], "fit", *PLAIN, *DDP)]) == [0, 0, 0]
    return folders


def assert_learned_the_same(first: Path, second: Path) -> None:
    for name, weights in last(first)["state_dict"].items():
        torch.testing.assert_close(weights, last(second)["state_dict"][name], atol=1e-5, rtol=1e-4)
    for one, other in zip(validations(version(first)), validations(version(second)), strict=True):
        for key in ("val/loss", "val/accuracy", "val/iou"):
            assert one[key] == pytest.approx(other[key], abs=1e-4)


@pytest.mark.slow
def test_two_processes_learn_what_one_with_twice_the_batch_does(plain: dict[str, Path]) -> None:
    assert_learned_the_same(plain["one"], plain["ddp"])


@pytest.mark.slow
def test_a_killed_run_of_two_processes_goes_on_in_its_folder_and_ends_with_the_same_weights(
    plain: dict[str, Path], tmp_path: Path
) -> None:
    args = ["fit", *PLAIN, *DDP]
    processes = start_ranks(tmp_path, *args)
    wait_for_epochs(processes[0], tmp_path / "log0", 2)
    kill(*processes)
    assert exit_codes(start_ranks(tmp_path, *args, "--ckpt_path=last", log="resumed")) == [0, 0]
    assert (tmp_path / "resumed1").read_text() == ""
    # Moved aside once.
    left = {path.name for path in version(tmp_path).iterdir() if path.name.startswith(("config", "metrics"))}
    assert left == {"config.yaml", "config-2.yaml", "metrics.csv", "metrics-before-resume.csv"}
    for name, weights in last(plain["ddp"])["state_dict"].items():
        assert torch.equal(weights, last(tmp_path)["state_dict"][name]), name


@pytest.mark.slow
def test_what_stops_one_of_two_processes_is_said_once(tmp_path: Path) -> None:
    """The first alone looks for the data."""
    nowhere = ["--data=datamodules.dsb2018.DSB2018DataModule", "--data.init_args.root=nowhere"]
    codes = exit_codes(start_ranks(tmp_path, "fit", *SMALL[:2], *nowhere, *DDP, "--trainer.accelerator=cpu"))
    said = [(tmp_path / f"log{rank}").read_text().strip() for rank in range(2)]
    assert codes == [2, 2], said
    assert "Traceback" not in said[0]
    assert (
        said[0].splitlines()[-1].startswith("error: There is no stage1_train.zip and no folder stage1_train in nowhere")
    )
    (line,) = said[1].splitlines()
    assert line.startswith("error: Another process of this run has ended")


@pytest.mark.parametrize(("rank", "left"), [(0, DataError), (1, SystemExit)])
def test_what_stops_every_process_is_said_by_the_first(
    rank: int, left: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", rank)
    with pytest.raises(left) as raised, one_voice():
        raise DataError("All have the same config.")
    assert rank == 0 or raised.value.code == 2  # type: ignore[attr-defined]


def test_batch_norm_is_synchronised_between_gpus_only() -> None:
    quiet = {"logger": False, "enable_progress_bar": False}
    two = lightning.Trainer(accelerator="cpu", devices=2, strategy="ddp", **quiet)
    check_processes(two, sync_batchnorm=False)
    check_processes(lightning.Trainer(accelerator="cpu", devices=1, **quiet), sync_batchnorm=True)
    with pytest.raises(DataError, match="between GPUs only"):
        check_processes(two, sync_batchnorm=True)
