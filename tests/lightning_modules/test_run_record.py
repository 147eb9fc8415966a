"""A record holds what it takes to believe a figure, also of a run that was stopped or goes on."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from echo_model import EchoModel, loader, make_trainer, sample
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger

from lightning_modules.callbacks import run_record
from lightning_modules.callbacks.run_record import RunRecord

IMAGES = loader([sample("a", np.eye(8, dtype=np.int64))] * 4)


def trainer(folder: Path, **kwargs: Any) -> Trainer:
    return make_trainer(folder, RunRecord("random"), logger=CSVLogger(folder, name="", version=""), **kwargs)


def train(folder: Path, epochs: int = 1, checkpoint: Path | None = None, model: EchoModel | None = None) -> Trainer:
    fitting = trainer(folder, max_epochs=epochs)
    fitting.fit(model or EchoModel(), IMAGES, ckpt_path=checkpoint)
    return fitting


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "record.json").read_text())


class Stopping(EchoModel):
    """Trains two steps, then something happens."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def training_step(self, batch):
        if self.global_step == 2:
            raise self.error
        return super().training_step(batch)


def test_fit_and_test_leave_what_it_takes_to_believe_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["cli", "fit", "--name", "two words"])
    fitting = train(tmp_path, epochs=2)
    fit = record(tmp_path)["fit"]
    assert fit["command"] == "python -m cli fit --name 'two words'"
    assert (fit["epochs"], fit["steps"], fit["interrupted"], fit["parameters"]) == (2, 8, False, 1)
    assert fit["hardware"].startswith("CPU, ") and fit["initial_weights"] == "random"
    # Of the checkout.
    assert len(fit["commit"].removesuffix("-dirty")) >= 7 and "earlier_commits" not in fit
    checkpoint = tmp_path / "checkpoints" / "best.ckpt"
    fitting.save_checkpoint(checkpoint)
    trainer(tmp_path / "test").test(EchoModel(), IMAGES, ckpt_path=checkpoint, verbose=False)
    both = record(tmp_path / "test")
    assert both["fit"] == fit
    assert both["test"]["checkpoint"] == str(checkpoint)
    # Four images of one batch each, and time beside them.
    assert 0 < 4 * both["test"]["seconds_per_image"] <= both["test"]["wall_s"] + 0.1
    assert "seconds_per_image" not in fit and "peak_gpu_memory_gib" not in fit
    # A process that has imported torch; what it held at most never falls.
    assert 0.1 < fit["peak_memory_gib"] <= both["test"]["peak_memory_gib"] < 100


def test_a_test_is_joined_by_the_validation_of_its_own_checkpoint_alone(tmp_path: Path) -> None:
    fitting = train(tmp_path)
    best, last = (tmp_path / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    for checkpoint in (best, last):
        fitting.save_checkpoint(checkpoint)
    trainer(tmp_path / "validate").validate(EchoModel(), IMAGES, ckpt_path=last, verbose=False)
    for checkpoint, joined in ((best, False), (last, True)):
        trainer(tmp_path / "test").test(EchoModel(), IMAGES, ckpt_path=checkpoint, verbose=False)
        assert ("val" in record(tmp_path / "test")) == joined


def test_the_time_of_a_resumed_run_is_the_sum_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(run_record.time, "monotonic", lambda: now)
    first, second = RunRecord(), RunRecord()
    first.setup(Trainer(logger=False), EchoModel(), "fit")
    now = 100.0
    saved = first.state_dict()
    second.setup(Trainer(logger=False), EchoModel(), "fit")
    second.load_state_dict(saved)
    now = 130.0
    assert (saved["wall_s"], second.state_dict()["wall_s"]) == (100, 130)
    # Checkpoints of earlier releases name no commit.
    second.load_state_dict({"wall_s": 5.0})
    assert (second.earlier_s, second.earlier_commits) == (5.0, [])


def test_an_interrupted_run_is_recorded_and_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train(tmp_path, model=Stopping(KeyboardInterrupt()))
    fit = record(tmp_path)["fit"]
    assert (fit["interrupted"], fit["steps"]) == (True, 2)
    assert "--ckpt_path last" in capsys.readouterr().out


def test_newer_code_is_said_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    for epochs, commit in enumerate(("a1", "a1", "b2", "c3"), start=1):
        monkeypatch.setattr(run_record, "commit", lambda commit=commit: commit)
        with caplog.at_level(logging.INFO, "lightning.pytorch.utilities.rank_zero"):
            train(tmp_path, epochs, checkpoint if epochs > 1 else None).save_checkpoint(checkpoint)
    said = [message for message in caplog.messages if "goes on by commit" in message]
    assert said == [
        "This run was trained by commit a1 so far and goes on by commit b2; its record names both.",
        "This run was trained by commit b2 so far and goes on by commit c3; its record names both.",
    ]
    fit = record(tmp_path)["fit"]
    assert (fit["commit"], fit["earlier_commits"]) == ("c3", ["a1", "b2"])


def test_a_node_without_git_knows_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_record.commit() == "unknown"


def test_what_stopped_the_run_is_said_though_the_record_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_record, "write_whole", full)
    with pytest.raises(ZeroDivisionError, match="the reason"):
        train(tmp_path, model=Stopping(ZeroDivisionError("the reason")))


@pytest.mark.parametrize("content", [b"{", b"\xff", b"3", b""])
def test_a_damaged_record_does_not_cost_what_was_measured(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "record.json").write_bytes(content)
    with caplog.at_level("INFO", "lightning.pytorch.utilities.rank_zero"):
        run_record._written(tmp_path / "record.json")
    assert f"{tmp_path / 'record.json'} is not a readable record" in caplog.text
    train(tmp_path)
    assert record(tmp_path)["fit"]["epochs"] == 1
