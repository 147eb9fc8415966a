"""Of several processes one builds; the others say what they wait for."""

import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from datamodules.locks import only_one


def test_alone_there_is_nothing_to_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with only_one(tmp_path / "a.lock", "building a"):
        pass
    assert capsys.readouterr().out == ""


def test_who_waits_says_for_what_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held, done = threading.Event(), threading.Event()

    def build() -> None:
        with FileLock(tmp_path / "a.lock"):
            held.set()
            time.sleep(0.5)
            done.set()

    other = threading.Thread(target=build)
    other.start()
    held.wait()
    with only_one(tmp_path / "a.lock", "building the cache a", patience=0.05):
        assert done.is_set()
    other.join()
    assert capsys.readouterr().out == (
        f"Waiting for another process that is building the cache a (its lock: {tmp_path / 'a.lock'}) ...\n"
    )


def test_an_error_lets_the_next_one_in(tmp_path: Path) -> None:
    with pytest.raises(KeyError), only_one(tmp_path / "a.lock", "building a"):
        raise KeyError
    with only_one(tmp_path / "a.lock", "building a", patience=0.05):
        pass
