import json
from pathlib import Path

import numpy as np
import pytest
from echo_model import EchoModel, loader, sample
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger

from lightning_modules.callbacks import run_record
from lightning_modules.callbacks.run_record import RunRecord


class Interrupting(EchoModel):
    """Trains two steps, then the user presses Ctrl-C."""

    def training_step(self, batch):
        if self.global_step == 2:
            raise KeyboardInterrupt
        return super().training_step(batch)


def trainer(folder: Path, record: RunRecord, **kwargs: object) -> Trainer:
    logger = CSVLogger(folder, name="", version="")
    return Trainer(
        accelerator="cpu",
        logger=logger,
        callbacks=[record],
        enable_progress_bar=False,
        enable_model_summary=False,
        **kwargs,
    )


def one_image():
    return loader([sample("a", np.eye(8, dtype=np.int64))] * 4)


def test_fit_and_test_leave_what_it_takes_to_believe_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["cli", "fit", "--name", "two words"])
    fitting = trainer(tmp_path, RunRecord(), max_epochs=2)
    fitting.fit(EchoModel(), one_image())
    fit = json.loads((tmp_path / "record.json").read_text())["fit"]
    assert fit["command"] == "python -m cli fit --name 'two words'"
    assert (fit["epochs"], fit["steps"], fit["interrupted"], fit["parameters"]) == (2, 8, False, 1)
    assert fit["hardware"].startswith("CPU, ")
    checkpoint = tmp_path / "checkpoints" / "best.ckpt"
    fitting.save_checkpoint(checkpoint)
    trainer(tmp_path / "test", RunRecord()).test(EchoModel(), one_image(), ckpt_path=checkpoint, verbose=False)
    record = json.loads((tmp_path / "test" / "record.json").read_text())
    assert record["fit"] == fit
    assert record["test"]["checkpoint"] == str(checkpoint)
    # Four images of one batch each, and time beside them.
    assert 0 < 4 * record["test"]["seconds_per_image"] <= record["test"]["wall_s"] + 0.1
    assert "seconds_per_image" not in record["fit"]
    # A process that has imported torch; what it held at most never falls.
    assert 0.1 < fit["peak_memory_gib"] <= record["test"]["peak_memory_gib"] < 100
    assert "peak_gpu_memory_gib" not in fit


def test_a_test_is_joined_by_the_validation_of_its_own_checkpoint_alone(tmp_path: Path) -> None:
    fitting = trainer(tmp_path, RunRecord(), max_epochs=1)
    fitting.fit(EchoModel(), one_image())
    best, last = (tmp_path / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    for checkpoint in (best, last):
        fitting.save_checkpoint(checkpoint)
    trainer(tmp_path / "validate", RunRecord()).validate(EchoModel(), one_image(), ckpt_path=last, verbose=False)
    for checkpoint, joined in ((best, False), (last, True)):
        trainer(tmp_path / "test", RunRecord()).test(EchoModel(), one_image(), ckpt_path=checkpoint, verbose=False)
        assert ("val" in json.loads((tmp_path / "test" / "record.json").read_text())) == joined


def test_the_time_of_a_resumed_run_is_the_sum_of_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(run_record.time, "monotonic", lambda: now)
    first = RunRecord()
    first.setup(Trainer(logger=False), EchoModel(), "fit")
    now = 100.0
    saved = first.state_dict()
    second = RunRecord()
    second.setup(Trainer(logger=False), EchoModel(), "fit")
    second.load_state_dict(saved)
    now = 130.0
    assert (saved["wall_s"], second.state_dict()["wall_s"]) == (100, 130)


def test_an_interrupted_run_is_recorded_and_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        trainer(tmp_path, RunRecord(), max_epochs=2).fit(Interrupting(), one_image())
    fit = json.loads((tmp_path / "record.json").read_text())["fit"]
    assert (fit["interrupted"], fit["steps"]) == (True, 2)
    assert "--ckpt_path last" in capsys.readouterr().out


def test_the_commit_is_that_of_the_checkout() -> None:
    assert len(run_record.commit().removesuffix("-dirty")) >= 7
