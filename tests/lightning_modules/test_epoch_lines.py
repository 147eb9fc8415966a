"""Lines of progress, by a clock of the test's own."""

from types import SimpleNamespace
from typing import Any

import pytest

from lightning_modules.callbacks import epoch_lines
from lightning_modules.callbacks.epoch_lines import EpochLines

MODULE: Any = None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    now = SimpleNamespace(s=0.0)
    monkeypatch.setattr(epoch_lines.time, "monotonic", lambda: now.s)
    return now


def trainer(**kwargs: Any) -> Any:
    given = {"is_global_zero": True, "progress_bar_callback": None, "callback_metrics": {}, "current_epoch": 0}
    given |= {"num_training_batches": 100, "num_test_batches": [50], "num_val_batches": [10], "global_step": 0}
    return SimpleNamespace(**{**given, "max_epochs": 4, "max_steps": -1, **kwargs})


def test_a_long_epoch_has_a_line_a_minute_with_the_time_left(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lines = EpochLines()
    for batch in range(20):
        clock.s += 10
        lines.on_train_batch_end(trainer(), MODULE, None, None, batch)
    said = capsys.readouterr().out.splitlines()
    # After the first batch six more take a minute, and 93 are left.
    assert said[0] == "epoch 1, batch 7/100  0:15:30 left"
    assert [line.split("  ")[0] for line in said] == [f"epoch 1, batch {k}/100" for k in (7, 13, 19)]


def test_each_evaluation_is_timed_by_itself(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lines = EpochLines()
    for _ in range(2):
        for batch in range(4):
            clock.s += 60
            lines.on_validation_batch_end(trainer(), MODULE, None, None, batch)
    said = capsys.readouterr().out.splitlines()
    assert said == 2 * [f"validation, batch {k}/10  0:0{10 - k}:00 left" for k in (2, 3, 4)]
    lines.on_test_batch_end(trainer(), MODULE, None, None, 0)
    clock.s += 60
    lines.on_test_batch_end(trainer(), MODULE, None, None, 1)
    assert capsys.readouterr().out == "test, batch 2/50  0:48:00 left\n"


@pytest.mark.parametrize("silent", [{"is_global_zero": False}, {"progress_bar_callback": object()}])
def test_other_processes_and_a_bar_need_no_such_lines(
    silent: dict[str, Any], clock: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = EpochLines()
    for batch in range(9):
        clock.s += 60
        lines.on_predict_batch_end(trainer(num_predict_batches=[9], **silent), MODULE, None, None, batch)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_epochs": 4}, "epoch 1/4  0:01:00 spent  at most 0:03:00 left"),
        ({"max_epochs": -1, "max_steps": 25}, "epoch 1  step 10/25  0:01:00 spent  at most 0:01:30 left"),
        ({"max_epochs": 2, "max_steps": 40}, "epoch 1/2  step 10/40  0:01:00 spent  at most 0:01:00 left"),
        ({"max_epochs": None}, "epoch 1  0:01:00 spent"),
    ],
)
def test_the_time_left_is_until_the_first_limit(
    limits: dict[str, Any], expected: str, clock: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = EpochLines()
    lines.on_train_start(trainer(), MODULE)
    clock.s += 60
    lines.on_train_epoch_end(trainer(global_step=10, **limits), MODULE)
    assert capsys.readouterr().out.strip() == expected
