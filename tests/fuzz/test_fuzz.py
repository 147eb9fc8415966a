"""A short run of the fuzzer, over the same damaged files each time."""

import pytest
from fuzz import fuzz

FILES = {"images": 250, "microscopes": 60, "weights": 40, "zips": 80, "tables": 120, "cards": 60}


@pytest.mark.parametrize("kind", FILES)
def test_damaged_files_are_read_or_refused(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    found = fuzz(kind, range(FILES[kind]), seed=0)
    assert not found["faults"], capfd.readouterr().out
    assert found.total() == FILES[kind] and found["refused"]


def test_a_fault_is_counted(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    class Bad:
        def __init__(self, folder) -> None:
            self.number = -1

        def damage(self, rng) -> None:
            self.number += 1

        def read(self) -> None:
            if self.number == 1:
                raise KeyError("a")
            if self.number == 2:
                import os

                os._exit(3)

    monkeypatch.setitem(fuzz.__globals__["TARGETS"], "bad", Bad)
    assert fuzz("bad", range(5), seed=0) == {"read": 2, "faults": 3}
    said = capfd.readouterr().out
    assert "bad 1: KeyError: 'a'" in said and "bad 2: crash or hang, exit code 3" in said
