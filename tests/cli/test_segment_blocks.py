"""A large image that is killed in the middle goes on block by block, and ends with the same bytes."""

import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from bundles import SEGMENT, write_bundle
from segmented_images import SQUARES
from small_runs import Run

from karyon.inference.predictor import Predictor

FORMATS = ("--formats", "labels", "objects", "run_lengths", "probability")
# Blocks of 32 px.
SMALLEST = ("--memory", "690M")
MOSAIC = np.tile(SQUARES, (16, 12)) // np.linspace(1, 1.9, 360)


def results(folder: str) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*.[tc]*") if path.is_file()
    }


def kept(folder: str = "parts") -> list[Path]:
    return sorted(Path(folder).glob("unfinished/*.blocks/*/*.npz"))


def test_an_interrupted_image_goes_on_with_the_blocks_that_are_missing(
    segment: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite("a.tif", MOSAIC.astype(np.float32))
    looks: list[int] = []
    real = Predictor.at_once
    stop = 0

    def at_once(*args: object) -> object:
        looks.append(1)
        if len(looks) == stop:
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "at_once", at_once)
    arguments = ("a.tif", *SMALLEST, "--diameter", "none", *FORMATS)
    assert segment(*arguments, "--out", "whole") == 0
    every, stop = len(looks), len(looks) + 50
    assert segment(*arguments, "--out", "parts") == 130
    before, first = len(kept()), len(looks) - every
    assert 0 < before < first == 50
    stop = 0
    assert segment(*arguments, "--out", "parts") == 0
    assert len(looks) - first - every == every - before
    assert results("parts") == results("whole") and not Path("parts/unfinished").exists()


def test_blocks_of_an_image_that_was_changed_are_not_taken(segment: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("a.tif", *SMALLEST, *FORMATS)
    with monkeypatch.context() as patch:
        patch.setattr(
            "karyon.io.results_folder.ResultFolder.write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        tifffile.imwrite("a.tif", MOSAIC.astype(np.float32))
        assert segment(*arguments, "--out", "parts") == 130
    assert len(kept()) > 100
    tifffile.imwrite("a.tif", MOSAIC[::-1].astype(np.float32))
    assert segment(*arguments, "--out", "parts") == segment(*arguments, "--out", "whole") == 0
    assert results("parts") == results("whole") and not Path("parts/unfinished").exists()


@pytest.mark.slow
def test_killed_at_random_moments_and_never_killed_end_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_bundle(tmp_path / "bundle", onnx=True)
    tifffile.imwrite("a.tif", MOSAIC.astype(np.float32))
    command = [*SEGMENT, *SMALLEST, *FORMATS, "--out"]
    subprocess.run([*command, "whole"], check=True)
    killed = []
    for _ in range(3):
        process, before = subprocess.Popen([*command, "parts"]), len(kept())
        while process.poll() is None and len(kept()) <= before:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.2))
        process.kill()
        killed.append(process.wait() == -signal.SIGKILL)
    assert killed[0]
    subprocess.run([*command, "parts"], check=True)
    assert results("parts") == results("whole") and not kept()
