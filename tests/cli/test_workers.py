"""Workers of Dask look at the blocks of a large image: the same objects and ids, whatever becomes of some of them."""

import argparse
import os
import pickle
import signal
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
from bundles import SEGMENT, write_bundle
from large_files import write_pyramid
from round_trip import same_objects
from segmented_images import SQUARES, labels
from small_runs import Run

from karyon.commands.workers import Count
from karyon.io.lazy_image import LazyImage
from karyon.io.reading import open_page
from karyon.model import load_model

MOSAIC = np.tile(np.pad(SQUARES, 1), (34, 23)) // 2 + np.random.default_rng(0).integers(0, 20, (748, 736)).astype(
    np.uint8
)
BLOCKS_OF_512, BLOCKS_OF_32 = ("--memory", "1.19G"), ("--memory", "690M")


def tables(out: str) -> list[bytes]:
    return [Path(out, name).read_bytes() for name in ("counts.csv", "objects.csv", "labels/a.tif")]


def after_blocks(count: int, command: list[str], **options: Any) -> subprocess.Popen[str]:
    """A command that has been started, and has done some blocks."""
    process = subprocess.Popen(command, **options)
    while process.poll() is None and len(list(Path("killed").rglob("*.npz"))) < count:
        time.sleep(0.01)
    return process


@pytest.mark.slow
def test_two_workers_of_which_one_is_killed_find_what_one_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_bundle(tmp_path / "bundle", onnx=True)
    write_pyramid(Path("a.tif"), MOSAIC, metadata=None)
    command = [*SEGMENT, "--formats", "labels", "objects", "--out"]
    subprocess.run([*command, "whole"], check=True)
    subprocess.run([*command, "two", *BLOCKS_OF_512, "--workers", "2"], check=True)
    assert same_objects(labels("a.tif", "whole"), labels("a.tif", "two")) and labels("a.tif", "two").max() > 1000
    subprocess.run([*command, "one", *BLOCKS_OF_32], check=True)
    command += ["killed", *BLOCKS_OF_32, "--workers", "2"]
    # Where tests run in the background of a script, nobody hears Ctrl-C.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = after_blocks(5, command, preexec_fn=heard, start_new_session=True, stderr=subprocess.PIPE, text=True)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 130 and said == "Interrupted; the same command goes on where it stopped.\n"
    process = after_blocks(len(list(Path("killed").rglob("*.npz"))) + 5, command)
    workers = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    assert len(workers) == 2
    workers[0].kill()
    assert process.wait() == 0
    assert tables("killed") == tables("one") and not Path("killed/unfinished").exists()


@pytest.mark.parametrize("nan", [None, 7.0])
@pytest.mark.parametrize("level", [0, 1])
def test_an_image_goes_to_a_worker_as_what_opens_it_there(tmp_path: Path, level: int, nan: float | None) -> None:
    again = partial(open_page, tmp_path / "a.tif", None, 0)
    write_pyramid(tmp_path / "a.tif", np.where(MOSAIC > 110, np.nan, MOSAIC).astype(np.float32) if nan else MOSAIC)
    image = again()
    assert isinstance(image, LazyImage)
    sent = LazyImage(image.shape, image.dtype, image.read, image.name, image.coarser, nan, again).at(level)
    come = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(sent))))
    assert come.shape == sent.shape and np.array_equal(come[:, :], sent[:, :]) and len(come.coarser) == 1 - level


def test_a_predictor_goes_to_a_worker_as_what_it_was_loaded_from(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    predictor = load_model(tmp_path / "bundle", "cpu", rotations=True).predictor
    come, again = (pickle.loads(pickle.dumps(predictor)) for _ in range(2))
    assert come is again is not predictor and come.rotations


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--workers", "0"), "0 is not a number of workers: expected 4, or slurm:16"),
        (("--workers", "slurm"), "slurm is not a number of workers"),
        (("--workers", "2", "--worker-options=--mem=1G"), "--worker-options are of jobs of SLURM"),
        (("--workers", "slurm:2"), "--workers slurm needs sbatch, which is not here"),
    ],
)
def test_workers_that_there_cannot_be(
    segment: Run,
    arguments: tuple[str, ...],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert segment("a.tif", *arguments) == 2
    assert sentence in capsys.readouterr().err


def test_dask_that_is_missing_is_named(
    segment: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("karyon.commands.workers.find_spec", lambda name: None)
    assert segment("a.tif", "--workers", "2") == 2
    assert 'error: --workers needs Dask: pip install "karyon[dask]".' in capsys.readouterr().err


def test_a_dry_run_names_the_workers(segment: Run, capsys: pytest.CaptureFixture[str]) -> None:
    tifffile.imwrite("a.tif", SQUARES)
    assert segment("a.tif", "--workers", "2", "--dry-run") == 0
    assert "Blocks of large images by 2 workers of Dask on this machine" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "0", "-1", "slurm:", "slurm:0", "pbs:2", "2.5", "٢"])
def test_what_is_no_number_of_workers(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        Count.parse(text)
