"""How far a piece of work is can be read in a log file, and on a terminal."""

import sys

import pytest

from cli.progress import tracked


def test_a_log_file_has_lines_with_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, 5.0, 12.0, 20.0, 24.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    assert list(tracked("abcd", 4, "Reading")) == ["a", "b", "c", "d"]
    # None before ten seconds, nor within ten seconds of the last.
    assert capsys.readouterr().out.splitlines() == [
        "Reading: 2/4, 12 s spent, about 12 s left",
        "Reading: 4/4, 24 s spent, about 0 s left",
    ]


def test_a_terminal_has_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert list(tracked("abc", 3, "Reading")) == ["a", "b", "c"]
    assert "s spent" not in capsys.readouterr().out
