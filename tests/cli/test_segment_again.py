"""Work that is stopped goes on where it was, what is done is not done again, and how far it is is told."""

import csv
import json
import re
import signal
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
import tifffile
from segmented_images import LABELS, NOISE, SQUARES, counts, labels
from small_runs import Run

from karyon.commands.finished import PROBABILITIES
from karyon.io.formats import Format
from karyon.io.results_folder import ResultFolder
from karyon.model import Model


def test_what_is_done_is_not_done_again_and_an_interrupt_loses_nothing(
    segment: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    for name in "abc":
        cv2.imwrite(f"in/{name}.png", SQUARES)
    tifffile.imwrite("in/s.tif", np.stack([SQUARES] * 3), photometric="minisblack")
    calls = []
    real = Model.answer

    def interrupt(model: Model, *args: object) -> object:
        calls.append(1)
        if len(calls) in (3, 6):
            raise KeyboardInterrupt
        return real(model, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Model, "answer", interrupt)
    formats = ("--formats", "labels", "objects", "coco")
    assert segment("in", *formats) == 130
    assert list(counts()) == ["a.png", "b.png"]
    assert "the same command goes on" in capsys.readouterr().err
    assert segment("in", *formats) == 130
    assert list(counts()) == ["a.png", "b.png", "c.png", "s.tif/1"]
    assert segment("in", *formats) == 0
    assert len(calls) == 8 and len(counts()) == 6
    assert (labels("s.tif") == LABELS).all() and labels("s.tif").shape == (3, 20, 30)
    assert len(json.loads(Path("segmented/coco.json").read_text())["images"]) == 6
    capsys.readouterr()
    assert segment("in", *formats) == 0
    assert len(calls) == 8
    assert "0 segmented, 4 done before, 0 failed" in capsys.readouterr().out


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_work_with_everything_in_order(
    segment: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, code: int
) -> None:
    Path("in").mkdir()
    for name in "abc":
        cv2.imwrite(f"in/{name}.png", SQUARES)
    Path("in/b.jpg").touch()
    real, handler = ResultFolder.path, signal.getsignal(signal.SIGTERM)

    def strike(folder: ResultFolder, kind: str, name: str) -> Path:
        # While an overlay is about to be written.
        if (kind, name) == ("overlays", "b.png"):
            signal.raise_signal(number)
        return real(folder, kind, name)

    with monkeypatch.context() as patch:
        patch.setattr(ResultFolder, "path", strike)
        assert segment("in") == code
    said = capsys.readouterr()
    assert "1 segmented, 0 done before, 1 failed" in said.out
    assert "b.jpg: is empty" in said.err and "the same command goes on" in said.err
    assert list(counts()) == ["a.png"] and not list(Path().rglob("*.writing"))
    Path("in/b.jpg").unlink()
    assert segment("in") == 0
    assert list(counts()) == ["a.png", "b.png", "c.png"]
    assert signal.getsignal(signal.SIGTERM) == handler


def test_an_interrupt_before_the_first_image_is_no_traceback(
    segment: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("karyon.commands.segmentation.load_model", interrupt)
    cv2.imwrite("a.png", SQUARES)
    assert segment("a.png") == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def test_a_full_disk_is_one_sentence_and_what_is_done_stays(segment: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    cv2.imwrite("in/a.png", SQUARES)
    cv2.imwrite("in/b.png", NOISE)
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The system refuses to let a file grow beyond this, in the middle of it: the overlay of the noise.
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        assert segment("in") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = capsys.readouterr().err
    assert "cannot be written (File too large): free space, or choose another folder with --out." in said
    assert said.count("\n") == 1
    assert counts() == {"a.png": 2} and not list(Path().rglob("*.writing"))
    assert segment("in") == 0
    assert list(counts()) == ["a.png", "b.png"]


def test_whatever_a_library_says_of_one_image_the_others_are_done(
    segment: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = {
        "b": RuntimeError("odd\nand long"),
        "c": RuntimeError("not enough memory: tried 1 GB"),
        "d": MemoryError(),
    }
    for name in "abcde":
        cv2.imwrite(f"{name}.png", SQUARES)
    real = Model.answer

    def fail(model: Model, image: np.ndarray, diameter: object, name: str, *args: object) -> object:
        if error := errors.get(Path(name).stem):
            raise error
        return real(model, image, diameter, name, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Model, "answer", fail)
    assert segment("*.png") == 1
    assert list(counts()) == ["a.png", "e.png"]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("b.png: Karyon fails on it (RuntimeError: odd): please report that, with the file.")
    assert all("it needs more memory than there is: cut it into parts" in line for line in lines[1:])
    assert len(lines) == 3


def test_images_of_one_name_in_another_folder_are_not_taken_for_done(
    segment: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, pixels in (("first", SQUARES), ("second", NOISE)):
        Path(folder).mkdir()
        cv2.imwrite(f"{folder}/a.png", pixels)
    assert segment("first") == 0
    assert segment("second") == 2
    said = capsys.readouterr().err
    assert "holds results of other options (folder of the images): choose another --out, or --overwrite them." in said
    assert counts() == {"a.png": 2}
    assert segment("second", "--overwrite") == 0
    assert counts() != {"a.png": 2}


def test_a_folder_of_other_options_is_not_mixed(segment: Run, capsys: pytest.CaptureFixture[str]) -> None:
    tifffile.imwrite("two.tif", np.stack([NOISE, SQUARES]), imagej=True, metadata={"axes": "CYX"})
    # Where no image could be used, there is nothing to mix.
    assert segment("two.tif") == 1
    assert segment("two.tif", "--channel", 2) == 0
    assert segment("two.tif", "--channel", 1) == 2
    assert "segmented holds results of other options (channel): choose another --out" in capsys.readouterr().err
    assert (labels("two.tif") == LABELS).all()
    assert segment("two.tif", "--channel", 1, "--overwrite") == 0
    assert (labels("two.tif") != LABELS).any()


def test_another_format_is_written_from_the_label_images(
    segment: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    cv2.imwrite("in/a.png", SQUARES)
    cv2.imwrite("in/none.png", np.zeros_like(SQUARES))
    stack = np.stack([SQUARES, SQUARES[::-1]])
    tifffile.imwrite("in/s.tif", stack, imagej=True, resolution=(4, 4), metadata={"axes": "TYX", "unit": "um"})
    everything = [known for known in get_args(Format) if known not in PROBABILITIES]
    assert segment("in", "--out", "all", "--formats", *everything) == 0
    assert segment("in", "--formats", "labels", "objects") == 0
    real = ResultFolder.path

    def interrupt(folder: ResultFolder, kind: str, name: str) -> Path:
        if (kind, name) == ("geojson", "none.png"):
            raise KeyboardInterrupt
        return real(folder, kind, name)

    monkeypatch.delattr(Model, "answer")
    with monkeypatch.context() as patch:
        patch.setattr(ResultFolder, "path", interrupt)
        assert segment("in", "--formats", "geojson", "run_lengths") == 130
    for formats in (
        ("geojson", "run_lengths"),
        ("labels", "rois", "scores", "jet"),
        ("overlays", "coco"),
        ("objects", "parquet", "zarr"),
    ):
        assert segment("in", "--formats", *formats) == 0
    assert "Adding overlays, coco to 4 images from label images." in capsys.readouterr().out
    for path in (path for path in Path("all").rglob("*") if path.is_file()):
        assert path.read_bytes() == (Path("segmented") / path.relative_to("all")).read_bytes()


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        (["objects"], ["in", "--formats", "rois"], "segmented was written without labels, which rois of its images"),
        (["labels"], ["in", "--formats", "coco"], "segmented was written without objects, which coco of its images"),
        (["objects"], ["in", "--formats", "labels"], "without labels, which labels of its images would be made from"),
        (
            ["labels"],
            ["in/a.png", "--formats", "rois"],
            "holds results of b.png too, which is not named here",
        ),
        (["labels"], ["in", "--formats", "probability"], "holds no probabilities to make probability from"),
        (["labels"], ["in", "--shard", "1/2", "--formats", "rois"], "is without rois: write them by the same command"),
    ],
)
def test_what_a_format_cannot_be_made_from(
    segment: Run, capsys: pytest.CaptureFixture[str], first: list[str], then: list[str], message: str
) -> None:
    Path("in").mkdir()
    for name in "ab":
        cv2.imwrite(f"in/{name}.png", SQUARES)
    assert segment("in", "--formats", *first) == 0
    assert segment(*then) == 2
    assert message in capsys.readouterr().err


def test_a_label_image_that_was_changed_is_no_source(segment: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        cv2.imwrite(f"{name}.png", SQUARES)
    assert segment("*.png") == 0
    tifffile.imwrite("segmented/labels/a.tif", (SQUARES > 0).astype(np.uint16))
    for _ in range(2):
        assert segment("*.png", "--formats", "rois", "coco") == 1
        said = capsys.readouterr().err
        assert "a.png: segmented/labels/a.tif was changed since: it does not hold the 2 objects" in said
    assert Path("segmented/rois/b.zip").exists() and not Path("segmented/rois/a.zip").exists()


def test_sizes_in_um(segment: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    cv2.imwrite("in/a.png", SQUARES)
    tifffile.imwrite("in/b.tif", SQUARES, resolution=(20000, 20000), resolutionunit="CENTIMETER")
    real, diameters = Model.answer, []

    def segment_unscaled(model: Model, image: np.ndarray, diameter: object, *args: object) -> object:
        diameters.append(diameter)
        return real(model, image, None, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Model, "answer", segment_unscaled)
    assert segment("in", "--diameter", "12um", "--out", "unknown") == 1
    assert "a.png: does not say how large a pixel is: name it by --pixel-size, in um" in capsys.readouterr().err
    assert segment("in", "--diameter", "12um", "--pixel-size", "0.25") == 0
    # The size that a file names is the one that counts. The second image is looked at while the first one is, so that
    # which of them comes first is not sure.
    assert (diameters[0], sorted(diameters[1:])) == (24, [24, 48])
    with Path("segmented/objects.csv").open() as file:
        assert [float(row["area_um2"]) for row in csv.DictReader(file)] == [2.25, 6.5, 9, 26]
    with tifffile.TiffFile("segmented/labels/a.tif") as file:
        assert file.pages[0].tags["XResolution"].value == (40000, 1)


def test_how_far_a_large_image_is_is_told(
    segment: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("karyon.commands.console.EVERY", 0)
    monkeypatch.setattr("karyon.inference.memory.BLOCK", 32)
    monkeypatch.setattr("karyon.inference.memory.HALO", 32)
    Path("in").mkdir()
    cv2.imwrite("in/a.png", np.tile(SQUARES, (4, 1)))
    tifffile.imwrite("in/b.tif", np.stack([SQUARES] * 2), photometric="minisblack")
    assert segment("in", "--diameter", "none") == 0
    said = capsys.readouterr().out
    assert re.search(r"\[1/2\] a\.png: 8 objects  \d+ s spent, about \d+ s left", said)
    assert "2 segmented, 0 done before, 0 failed" in said
    lines = [line.split("  ")[0] for line in said.splitlines()]
    assert lines[1:-1] == [
        *("[1/2] a.png: 33%", "[1/2] a.png: 67%", "[1/2] a.png: 8 objects"),
        *("[2/2] b.tif: 0%", "[2/2] b.tif: 50%", "[2/2] b.tif: 4 objects on 2 pages"),
    ]
