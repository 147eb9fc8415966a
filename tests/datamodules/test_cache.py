"""The label-image cache: lossless, whole or not there at all, and read without its originals."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cache_builder
import cv2
import numpy as np
import pytest

from datamodules.cache import Cache, Record, build_cache, open_cache
from datamodules.drawing import draw_nuclei
from karyon.errors import DataError
from karyon.io.reading import pixel_digest

IMAGES = 60
ROOT = Path(__file__).parents[2]
Original = tuple[np.ndarray, np.ndarray]


def build(folder: Path, originals: dict[str, Original]) -> Cache:
    return build_cache(folder, {name: partial(tuple, pair) for name, pair in originals.items()}, "Preparing")


@pytest.fixture(scope="module")
def originals() -> dict[str, Original]:
    """Colour, grey saved as colour, and plain grey, with names that people give."""
    rng = np.random.default_rng(0)
    colour, grey, grey2 = (
        draw_nuclei(rng, (40, 56), image_type) for image_type in ("histology", "fluorescence", "brightfield")
    )
    noise = rng.integers(0, 256, (33, 47, 3), np.uint8), np.arange(33 * 47, dtype=np.int32).reshape(33, 47)
    plain = grey2[0][..., 0], grey2[1]
    return {"colour": colour, "grey": grey, "a plain.v2": plain, "Größe 5%, 'x' #1": noise}


def test_images_and_labels_come_back_unchanged(originals: dict[str, Original], tmp_path: Path) -> None:
    cache = build(tmp_path / "cache", originals)
    assert [record.name for record in cache.records] == sorted(originals)
    for record in cache.records:
        pixels, labels = originals[record.name]
        grey = record.name in ("grey", "a plain.v2")
        expected = pixels[..., 0] if grey and pixels.ndim == 3 else pixels
        read = cache.read_image(record)
        assert read.dtype == np.uint8 and np.array_equal(read, expected)
        assert record.channels == (1 if grey else 3) and read.ndim == (2 if grey else 3)
        read_labels = cache.read_labels(record)
        assert read_labels.dtype == np.int32 and np.array_equal(read_labels, labels)
        assert (record.height, record.width, record.objects) == (*labels.shape, labels.max())
        assert record.image_sha256 == pixel_digest(read) and record.labels_sha256 == pixel_digest(read_labels)


@pytest.mark.parametrize(("shape", "suffix"), [((255, 257), "png"), ((256, 256), "tif"), ((300, 400), "tif")])
def test_more_than_65535_objects_need_32_bit(shape: tuple[int, int], suffix: str, tmp_path: Path) -> None:
    labels = np.arange(1, shape[0] * shape[1] + 1, dtype=np.int32).reshape(shape)
    cache = build(tmp_path / "cache", {"a": (np.zeros(shape, np.uint8), labels)})
    assert (tmp_path / "cache" / f"a.labels.{suffix}").exists()
    assert np.array_equal(cache.read_labels(cache.records[0]), labels)


def test_images_of_one_field_share_a_group(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    first, second = (draw_nuclei(rng, (48, 48), "fluorescence") for _ in range(2))
    brighter = (np.minimum(first[0].astype(int) * 2 + 3, 255).astype(np.uint8), first[1])
    cache = build(tmp_path / "cache", {"a": first, "b": second, "c": brighter})
    assert {record.name: record.group for record in cache.records} == {"a": "a", "b": "b", "c": "a"}


@pytest.mark.parametrize(
    ("pixels", "sentence"),
    [
        (np.zeros((8, 8), np.uint16), ("Image bad", "uint16", "FolderDataModule")),
        (np.zeros((2, 16384), np.uint8), ("Image bad", "16383 px", "FolderDataModule")),
    ],
)
def test_what_a_cache_cannot_hold_is_refused(
    pixels: np.ndarray, sentence: tuple[str, ...], tmp_path: Path, refused: Callable
) -> None:
    with refused(*sentence):
        build(tmp_path / "cache", {"bad": (pixels, np.zeros(pixels.shape, np.int32))})
    assert not (tmp_path / "cache").exists()


def test_a_disk_that_cannot_be_written_is_said(
    originals: dict[str, Original], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refused: Callable
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with refused("No space left on device", "free space", "cache_dir"):
        build(tmp_path / "cache", originals)
    assert [path.name for path in tmp_path.iterdir()] == ["cache.lock"]
    (tmp_path / "file").touch()
    with refused(tmp_path / "file", "choose another cache_dir"):
        build(tmp_path / "file" / "cache", {})


@pytest.mark.parametrize("error", [DataError("Bad."), RuntimeError("bug"), KeyboardInterrupt()])
def test_an_error_leaves_no_cache_and_stops_reading(error: BaseException, tmp_path: Path) -> None:
    read: list[int] = []

    def original(number: int) -> Original:
        read.append(number)
        if number == 5:
            raise error
        time.sleep(0.002)
        return cache_builder.original(number)

    with pytest.raises(type(error)):
        build_cache(tmp_path / "cache", {f"{i:03d}": partial(original, i) for i in range(300)}, "Preparing")
    assert [path.name for path in tmp_path.iterdir()] == ["cache.lock"]
    assert len(read) < 300


def test_records_that_are_not_the_expected_ones_leave_no_cache(originals: dict[str, Original], tmp_path: Path) -> None:
    seen: list[Record] = []

    def check(records: list[Record]) -> None:
        seen.extend(records)
        raise DataError("Not these.")

    with pytest.raises(DataError, match="Not these"):
        build_cache(tmp_path / "cache", {"a": partial(tuple, originals["grey"])}, "Preparing", check)  # type: ignore[arg-type]
    assert [record.name for record in seen] == ["a"] and not (tmp_path / "cache").exists()


@pytest.mark.parametrize("index", [None, "", '{"version": 1, "rec', '{"version": 0, "records": []}'])
def test_a_half_cache_is_not_trusted(index: str | None, originals: dict[str, Original], tmp_path: Path) -> None:
    for name in ("cache", "cache.building"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "grey.webp").write_bytes(b"half")
        if index is not None:
            (tmp_path / name / "index.json").write_text(index)
    assert open_cache(tmp_path / "cache") is None
    cache = build(tmp_path / "cache", originals)
    assert np.array_equal(cache.read_image(cache.records[2]), originals[cache.records[2].name][0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "cache.lock"]


Start = Callable[[Path], "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts another process that builds a cache once it is told to."""
    processes = []

    def start(folder: Path) -> "subprocess.Popen[str]":
        command = [sys.executable, cache_builder.__file__, str(folder), str(tmp_path / "log"), str(IMAGES)]
        pipe = subprocess.PIPE
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def go(*processes: "subprocess.Popen[str]") -> None:
    """Lets processes begin together, once each has imported what it needs."""
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def is_whole(cache: Cache | None) -> bool:
    if cache is None or len(cache.records) != IMAGES:
        return False
    pairs = [(cache_builder.original(i), record) for i, record in enumerate(cache.records)]
    return all(
        np.array_equal(cache.read_image(record), pixels) and np.array_equal(cache.read_labels(record), labels)
        for (pixels, labels), record in pairs
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_process_stopped_in_the_middle_leaves_no_cache(how: signal.Signals, start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    process = start(folder)
    go(process)
    while len(lines(tmp_path / "log")) < 8:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(how)
    assert process.wait(timeout=20) != 0
    assert 8 <= len(lines(tmp_path / "log")) < IMAGES
    assert open_cache(folder) is None and not folder.exists()
    # Killed, a process leaves its half behind; interrupted, it clears up.
    assert (tmp_path / "cache.building").exists() == (how == signal.SIGKILL)
    readers = {f"image{i:03d}": partial(cache_builder.original, i) for i in range(IMAGES)}
    assert is_whole(build_cache(folder, readers, "Preparing")) and is_whole(open_cache(folder))
    assert not (tmp_path / "cache.building").exists()


@pytest.mark.slow
def test_two_processes_at_once_build_one_cache(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    processes = [start(folder), start(folder)]
    go(*processes)
    while len(lines(tmp_path / "log")) < 8:
        assert all(process.poll() is None for process in processes), "both are at it: one builds, one waits"
        time.sleep(0.005)
    for process in processes:
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
    assert sorted(map(int, lines(tmp_path / "log"))) == list(range(IMAGES)), "every original is read once"
    assert is_whole(open_cache(folder))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "cache.lock", "log"]


def test_a_cache_is_opened_as_it_was_built_and_a_second_build_reads_no_original(
    originals: dict[str, Original], tmp_path: Path
) -> None:
    assert open_cache(tmp_path / "cache") is None
    first = build(tmp_path / "cache", originals)
    assert first == open_cache(tmp_path / "cache")
    stamp = (tmp_path / "cache" / "index.json").stat().st_mtime_ns

    def original() -> Original:
        raise AssertionError("read again")

    assert build_cache(tmp_path / "cache", dict.fromkeys(originals, original), "Preparing") == first
    assert (tmp_path / "cache" / "index.json").stat().st_mtime_ns == stamp


def test_the_index_is_plain_json_and_the_images_open_anywhere(originals: dict[str, Original], tmp_path: Path) -> None:
    cache = build(tmp_path / "cache", originals)
    rows = json.loads((tmp_path / "cache" / "index.json").read_text())["records"]
    assert [row["image_type"] for row in rows] == [record.image_type for record in cache.records]
    image = cv2.imread(str(tmp_path / "cache" / "colour.webp"))
    assert image is not None and np.array_equal(image[..., ::-1], originals["colour"][0])
    digest = hashlib.sha256(b"(40, 56, 3)|u1" + originals["colour"][0].tobytes()).hexdigest()
    assert digest in {row["image_sha256"] for row in rows}
