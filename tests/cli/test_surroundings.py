"""What surrounds a command may fail at any moment: kills, pipes, encodings, homes. It is said; nothing is lost."""

import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
import tifffile
from bundles import write_bundle
from config_files import ROOT
from launches import PATIENCE, exit_codes, kill, start
from segmented_images import SQUARES

from karyon.io.formats import Format

KILLS = 20
UNHEARD = "Stopped, since nobody reads what it says any more.\n"
pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds a bundle, and images of which some are stacks."""
    write_bundle(tmp_path / "bundle", onnx=True)
    (tmp_path / "in" / "deeper").mkdir(parents=True)
    for number in range(2 * KILLS):
        image = np.roll(SQUARES, number, 1)
        stack = np.stack([image] * 3) if number % 5 == 0 else image
        tifffile.imwrite(tmp_path / "in" / f"{'deeper/' * (number % 2)}{number}.tif", stack, photometric="minisblack")
    return tmp_path


def typed(folder: Path, *args: str, **kwargs: object) -> "subprocess.Popen[str]":
    """Types ``karyon ...`` in a process of its own, which shares nothing with this one but files."""
    env = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **kwargs.pop("env", {})}  # type: ignore[dict-item]
    command = [sys.executable, "-m", "karyon", *args]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=env, text=True, **{**streams, **kwargs})  # type: ignore[call-overload, no-any-return]


def tree(folder: Path) -> dict[str, str]:
    """The content of every file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def wait_for_an_image(log: Path) -> None:
    """Until a process has said that it has done one that was not done before."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and not (log.exists() and "object" in log.read_text()):
        time.sleep(0.01)


def test_segment_killed_at_random_moments_ends_with_the_results_of_one_that_never_was(folder: Path) -> None:
    formats = [known for known in get_args(Format) if known not in ("overlays", "scores", "jet")]
    command: Sequence[str] = ["segment", "in", "--model", "bundle", "--device", "cpu", "--formats", *formats]
    assert exit_codes([start(folder, *command, "--out", "whole", log="log")]) == [0]
    whole, killed = tree(folder / "whole"), folder / "killed"
    moments = random.Random()
    for number in range(KILLS):
        process = start(folder, *command, "--out", "killed", log=f"log{number}")
        wait_for_an_image(folder / f"log{number}")
        time.sleep(moments.uniform(0, 0.02))
        kill(process)
        # Tables grow, and stacks are made of their pages; whatever else has its final name is final.
        done = {name: content for name, content in tree(killed).items() if name in whole and "/" in name}
        assert done.items() <= whole.items()
    assert exit_codes([start(folder, *command, "--out", "killed", log="log")]) == [0]
    assert "done before" in (folder / "log").read_text().splitlines()[-1]
    assert tree(killed) == whole


def test_a_pipe_that_is_closed_ends_the_work_in_order(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    listing = typed(folder, "models", stdout=writer)
    assert listing.communicate()[1] == UNHEARD and listing.returncode == 141

    command = ["segment", "in", "--model", "bundle", "--device", "cpu", "--formats", "labels"]
    work = typed(folder, *command)
    assert work.stdout and work.stderr
    while "object" not in work.stdout.readline():
        pass
    work.stdout.close()
    assert work.stderr.read() == UNHEARD and work.wait() == 141
    done = (folder / "segmented" / "counts.csv").read_text().splitlines()
    assert 2 <= len(done) < 2 * KILLS and all(line.count(",") == 3 for line in done)
    assert typed(folder, *command, stdout=subprocess.DEVNULL).wait() == 0


@pytest.mark.parametrize(("encoding", "shown"), [("ascii:strict", "\\xb5"), ("utf-8", "µ")])
def test_neither_a_home_nor_an_encoding_is_needed(folder: Path, encoding: str, shown: str) -> None:
    cv2.imwrite(str(folder / "µ.png"), SQUARES)
    env = {"PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    found = typed(folder, "segment", "µ.png", "--model", "bundle", "--device", "cpu", env=env)
    said, error = found.communicate()
    assert (found.returncode, error) == (0, "") and f"{shown}.png: 2 objects" in said
    missing = typed(folder, "segment", "µ", "--model", "bundle", env=env)
    assert missing.communicate()[1].startswith(f"error: {shown} names no image") and missing.returncode == 2
