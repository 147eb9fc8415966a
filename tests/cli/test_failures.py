"""What stops a run from outside: signals, full disks, jobs that begin wrongly. It is said, and nothing is lost."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from config_files import QUICKSTART, ROOT
from lightning import Trainer
from small_runs import Run, Small

from lightning_modules.callbacks.run_record import RunRecord
from lightning_modules.segmenter import DenseSegmenter

LAST = Path("runs/quickstart/version_0/checkpoints/last.ckpt")


@pytest.fixture
def go_on(run: Run, trained: list[object]) -> Run:
    """Goes on with a run of one epoch and one step until the third epoch."""
    args = [*trained, "--trainer.limit_train_batches", 1, "--trainer.max_epochs", 3, "--ckpt_path", "last"]
    return lambda: run("fit", *args)


def steps(path: Path = LAST) -> int:
    return int(torch.load(path, weights_only=True)["global_step"])


def in_epoch(monkeypatch: pytest.MonkeyPatch, number: int, happens: Callable[[], Any]) -> None:
    """Lets something happen at the start of an epoch of training."""
    own = DenseSegmenter.training_step

    def training_step(self: DenseSegmenter, batch: Any) -> Any:
        if self.current_epoch == number:
            happens()
        return own(self, batch)

    monkeypatch.setattr(DenseSegmenter, "training_step", training_step)


@pytest.mark.slow
def test_a_run_is_found_again_by_its_name(run: Run, trained: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/quickstart/job_7").symlink_to("version_0")
    newer = Path("runs/quickstart/version_1/checkpoints")
    newer.mkdir(parents=True)
    (newer / "last.ckpt").touch()
    assert run("fit", *trained, "--version", "job_7", "--trainer.max_epochs", 2) == 0
    assert f"Resuming {LAST}." in capsys.readouterr().out
    versions = Path("runs/quickstart")
    assert {path.name for path in versions.iterdir()} == {"version_0", "version_1", "job_7"}
    assert steps() == 2
    assert "version: null" in (versions / "version_0" / "config-2.yaml").read_text()
    assert run("test", *trained, "--version", "job_7") == 0
    record = json.loads((versions / "version_0" / "test" / "record.json").read_text())["test"]
    assert record["checkpoint"] == str(versions / "version_0" / "checkpoints" / "best.ckpt")


@pytest.mark.slow
def test_sigterm_ends_with_its_code_and_the_run_goes_on(
    go_on: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        in_epoch(patched, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert go_on() == 143
    assert "--ckpt_path last goes on" in capsys.readouterr().out
    assert json.loads(LAST.parents[1].joinpath("record.json").read_text())["fit"]["interrupted"]
    # The batch was finished, and the epoch with it.
    assert steps() == 2
    assert go_on() == 0
    assert steps() == 3


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_however_often_ends_with_its_code_and_the_run_goes_on(
    go_on: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = RunRecord.on_exception

    def again(*args: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        own(*args)

    with monkeypatch.context() as patched:
        patched.setattr(RunRecord, "on_exception", again)
        in_epoch(patched, 1, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert go_on() == 130
    said = capsys.readouterr()
    assert "Interrupted in epoch 2; the same command with --ckpt_path last goes on." in said.out
    assert "Traceback" not in said.err
    assert steps() == 1
    assert go_on() == 0
    assert steps() == 3


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, the disk that is always full")
def test_a_disk_that_is_full_loses_nothing(
    go_on: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        in_epoch(patched, 1, lambda: LAST.with_name("last.ckpt.writing").symlink_to("/dev/full"))
        assert go_on() == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"error: {LAST} cannot be written (No space left on device): free space")
    assert steps() == 1
    assert go_on() == 0
    assert steps() == 3


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, the disk that is always full")
def test_a_disk_that_is_full_for_the_metrics(
    go_on: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill() -> None:
        metrics = LAST.parents[1] / "metrics.csv"
        metrics.unlink()
        metrics.symlink_to("/dev/full")

    # When the first since it went on has been logged.
    in_epoch(monkeypatch, 2, fill)
    assert go_on() == 2
    assert (
        "cannot be written (No space left on device): free space, then go on with a training by --ckpt_path last."
        in (capsys.readouterr().err.splitlines()[-1])
    )
    assert steps() == 2


def test_a_damaged_checkpoint_is_no_reason_to_begin_anew(refusal: Callable[..., str], small: Small) -> None:
    LAST.parent.mkdir(parents=True)
    LAST.write_bytes(b"PK\x03\x04 cut short")
    assert f"{LAST} is not a readable checkpoint" in refusal("fit", *small(QUICKSTART), "--ckpt_path", "last")


def test_a_failure_before_the_start_leaves_no_folder(run: Run) -> None:
    assert run("fit", "--config", ROOT / "configs/reference/r3-unet.yaml", "--version", "job_7") == 2
    assert list(Path("runs/r3-unet").iterdir()) == []


def test_several_tasks_need_srun(refusal: Callable[..., str], small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.delenv("SLURM_STEP_ID", raising=False)
    assert "has 2 tasks but one process: write srun before python" in refusal("fit", *small(QUICKSTART))


@pytest.mark.slow
def test_lightning_does_not_requeue_on_its_own(go_on: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NTASKS": 1, "PROCID": 0, "LOCALID": 0, "NODEID": 0, "JOB_ID": 5, "STEP_ID": 0}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    handlers = []
    in_epoch(monkeypatch, 1, lambda: handlers.append(signal.getsignal(signal.SIGUSR1)))
    assert go_on() == 0
    assert handlers == [signal.SIG_DFL]
    assert not list(Path().glob("hpc_ckpt*"))


def test_plugins_of_the_user_win(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.fabric.plugins import TorchCheckpointIO
    from lightning.fabric.plugins.environments import SLURMEnvironment

    from cli.cluster import trainer_plugins
    from lightning_modules.whole_checkpoints import WholeCheckpoints

    assert [type(plugin) for plugin in trainer_plugins(None)] == [WholeCheckpoints]
    assert isinstance(Trainer(plugins=trainer_plugins(None), logger=False).strategy.checkpoint_io, WholeCheckpoints)
    monkeypatch.setenv("SLURM_NTASKS", "1")
    own = TorchCheckpointIO()
    plugins = trainer_plugins(own)
    assert plugins[0] is own and [type(plugin) for plugin in plugins[1:]] == [SLURMEnvironment]
    assert not plugins[1].auto_requeue
    assert trainer_plugins([own, plugins[1]]) == [own, plugins[1]]
