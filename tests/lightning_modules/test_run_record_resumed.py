"""What a record says of a run that goes on after the code has changed, or where much is missing."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from echo_model import EchoModel, loader, sample
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger

from lightning_modules.callbacks import run_record
from lightning_modules.callbacks.run_record import RunRecord

IMAGES = [sample("a", np.eye(8, dtype=np.int64))] * 2


def train(folder: Path, epochs: int, checkpoint: Path | None = None) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        logger=CSVLogger(folder, name="", version=""),
        callbacks=[RunRecord()],
        max_epochs=epochs,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(EchoModel(), loader(IMAGES), ckpt_path=checkpoint)
    return trainer


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
    fit = json.loads((tmp_path / "record.json").read_text())["fit"]
    assert (fit["commit"], fit["earlier_commits"]) == ("c3", ["a1", "b2"])


def test_one_commit_is_all_there_is_to_say(tmp_path: Path) -> None:
    train(tmp_path, 1)
    assert "earlier_commits" not in json.loads((tmp_path / "record.json").read_text())["fit"]


def test_checkpoints_of_earlier_releases_name_no_commit() -> None:
    record = RunRecord()
    record.setup(Trainer(logger=False), EchoModel(), "fit")
    record.load_state_dict({"wall_s": 5.0})
    assert (record.earlier_s, record.earlier_commits) == (5.0, [])


def test_a_node_without_git_knows_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_record.commit() == "unknown"


def test_what_stopped_the_run_is_said_though_the_record_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    class Failing(EchoModel):
        def training_step(self, batch: object) -> None:
            if self.global_step:
                raise ZeroDivisionError("the reason")
            return super().training_step(batch)

    monkeypatch.setattr(run_record, "write_whole", full)
    trainer = Trainer(
        accelerator="cpu",
        logger=CSVLogger(tmp_path, name="", version=""),
        callbacks=[RunRecord()],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with pytest.raises(ZeroDivisionError, match="the reason"):
        trainer.fit(Failing(), loader(IMAGES))
