"""How far a piece of work is can be read in a log file, and on a terminal."""

import subprocess
import sys

import pytest
from config_files import ROOT

from karyon.commands.console import DONE_BEFORE, duration, progress, tracked


def clock(monkeypatch: pytest.MonkeyPatch, *times: float) -> None:
    ticks = iter(times)
    monkeypatch.setattr("time.monotonic", lambda: next(ticks))


def test_a_log_file_has_lines_with_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # None before half a minute, nor within half a minute of the last.
    clock(monkeypatch, 0, 15, 36, 60, 72)
    assert list(tracked("abcd", 4, "Reading")) == ["a", "b", "c", "d"]
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["[2/4] Reading  36 s spent, about 36 s left", "[4/4] Reading  72 s spent, about 0 s left"]


def test_what_was_done_before_does_not_shorten_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(monkeypatch, 0, 0, 10, 30)
    with progress("Segmenting", 4) as report:
        report("a", DONE_BEFORE)
        report("b", "1 objects")
        report("c", "2 objects")
    assert capsys.readouterr().out.splitlines() == [
        "[1/4] a: done before  0 s spent",
        "[2/4] b: 1 objects  10 s spent, about 20 s left",
        "[3/4] c: 2 objects  30 s spent, about 15 s left",
    ]


def test_a_terminal_has_a_bar_and_what_failed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert list(tracked("abc", 3, "Reading")) == ["a", "b", "c"]
    with progress("Segmenting", 2) as report:
        report("a.png", "failed: not an image")
        report("b.png", "1 objects")
    said = capsys.readouterr().out
    assert "3/3" in said and "a.png: failed: not an image" in said
    assert "s spent" not in said and "b.png" not in said


def test_durations() -> None:
    assert [duration(seconds) for seconds in (599, 600, 3599)] == ["599 s", "10 min", "1 h 0 min"]


def test_the_console_is_imported_in_no_time() -> None:
    code = "import sys, karyon.commands.console; print(sorted({'numpy', 'torch', 'rich'} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed == "[]\n"
