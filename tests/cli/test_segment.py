"""Images of any kind go in, results come out; what cannot be used is named."""

import csv
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from bundles import write_bundle
from PIL import Image
from scipy import ndimage
from segmented_images import LABELS, NOISE, SQUARES, counts, labels
from small_runs import Run

GREEN = np.stack([SQUARES // 9, SQUARES, SQUARES // 7], axis=-1)


def test_images_of_every_type_and_name(segment: Run, tmp_path: Path) -> None:
    """Every file format is read in tests/karyon/test_reading.py."""
    folder = tmp_path / "in"
    folder.mkdir()
    for dtype in (bool, np.uint8, np.uint16, np.uint32, np.uint64, np.float16, np.float32, np.float64):
        tifffile.imwrite(folder / f"{np.dtype(dtype)}.tif", SQUARES.astype(dtype), photometric="minisblack")
    for dtype in (np.int8, np.int16, np.int32, np.float32):
        tifffile.imwrite(folder / f"negative-{np.dtype(dtype)}.tif", (SQUARES // 2 - 120.0).astype(dtype))
    tifffile.imwrite(folder / "huge-numbers.tif", SQUARES * 1e300)
    tifffile.imwrite(folder / "one.ome.tif", SQUARES[None], metadata={"axes": "CYX"}, ome=True)
    Image.fromarray(GREEN).save(folder / "colour.jpeg", quality=95)
    Image.fromarray(np.dstack([GREEN, np.full_like(SQUARES, 255)])).save(folder / "rgba.png")
    for name in ("Zwei Zellen äöü.png", "SHOUTED.TIF", "a,b;'c'.png", "[1].png"):
        Image.fromarray(SQUARES).save(folder / name)
    assert segment("in") == 0
    names = {path.name for path in folder.iterdir()}
    assert counts() == dict.fromkeys(names, 2) and len(names) == 20
    for name in names:
        assert (labels(f"{Path(name).stem}.tif") == LABELS).all() or name == "colour.jpeg"


def test_pages_come_back_as_a_stack_of_the_same_shape(segment: Run, tmp_path: Path) -> None:
    # The third page has no object.
    stack = np.stack([SQUARES, SQUARES[::-1], np.zeros_like(SQUARES), SQUARES[:, ::-1], SQUARES, SQUARES])
    tifffile.imwrite("pages.tif", stack)
    tifffile.imwrite("time.ome.tif", stack.reshape(2, 3, 20, 30), metadata={"axes": "TZYX"}, ome=True)
    assert segment("pages.tif", "time.ome.tif", "--formats", "labels", "rois", "overlays") == 0
    truth = np.stack([ndimage.label(page)[0] for page in stack])
    assert (labels("pages.tif") == truth).all()
    with tifffile.TiffFile("segmented/labels/time.ome.tif") as file:
        assert file.series[0].axes == "TZYX"
        assert (file.asarray() == truth.reshape(2, 3, 20, 30)).all()
    assert counts() == {
        f"{name}/{page}": 0 if page == 3 else 2 for name in ("pages.tif", "time.ome.tif") for page in range(1, 7)
    }
    assert sorted(path.name for path in (tmp_path / "segmented/labels").iterdir()) == [
        "pages.tif",
        "time.ome.tif",
    ]
    assert (tmp_path / "segmented/rois/pages/6.zip").exists()


def test_channels_are_chosen(segment: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    tifffile.imwrite("in/two.ome.tif", np.stack([NOISE, SQUARES]), metadata={"axes": "CYX"}, ome=True)
    tifffile.imwrite("in/fiji.tif", np.stack([[NOISE, SQUARES, NOISE]] * 2), imagej=True, metadata={"axes": "ZCYX"})
    tifffile.imwrite(
        "in/five.tif",
        np.stack([NOISE, SQUARES, *[NOISE] * 3], axis=-1),
        planarconfig="contig",
        photometric="minisblack",
    )
    cv2.imwrite("in/rgb.png", np.dstack([NOISE, SQUARES, NOISE]))
    assert segment("in", "--out", "unchosen") == 1
    said = capsys.readouterr().err
    assert "fiji.tif: has 3 channels: choose the one with the objects (--channel 1 to 3 of segment)" in said
    assert "two.ome.tif: has 2 channels: choose the one with the objects (--channel 1 to 2 of segment)" in said
    assert segment("in", "--channel", 2) == 0
    assert counts() == {"five.tif": 2, "fiji.tif/1": 2, "fiji.tif/2": 2, "rgb.png": 2, "two.ome.tif": 2}
    assert (labels("two.ome.tif") == LABELS).all() and (labels("fiji.tif") == LABELS).all()
    assert segment("in", "--channel", "2,1,2", "--out", "three") == 0
    said = capsys.readouterr()
    assert "4 segmented, 0 done before, 0 failed" in said.out and not said.err
    cv2.imwrite("grey.png", SQUARES)
    assert segment("grey.png", "--channel", 1, "--out", "grey") == 1
    assert "grey.png: has one channel: leave --channel out." in capsys.readouterr().err


def test_broken_files_are_listed_with_their_reason_and_the_rest_is_done(
    segment: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "z.png", "secret.png"):
        cv2.imwrite(str(folder / name), SQUARES)
    tifffile.imwrite(folder / "stack.tif", np.stack([SQUARES] * 5), metadata=None)
    (folder / "empty.png").touch()
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:-30])
    (folder / "cutstack.tif").write_bytes((folder / "stack.tif").read_bytes()[:2000])
    (folder / "text.png").write_bytes(b"no image")
    tifffile.imwrite(folder / "nan.tif", np.where(SQUARES > 0, np.nan, 0).astype(np.float32))
    stack = np.stack([SQUARES, np.where(SQUARES > 0, np.inf, 0)]).astype(np.float32)
    tifffile.imwrite(folder / "nan-stack.tif", stack, photometric="minisblack")
    (folder / "sub.png").mkdir()
    # Who runs the tests may be allowed everything.
    real = Path.open

    def refuse(path: Path, *args: object, **kwargs: object) -> object:
        if path.name == "secret.png":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    assert segment("in") == 1
    stack_pages = {f"stack.tif/{page}": 2 for page in range(1, 6)}
    assert counts() == {"a.png": 2, "z.png": 2, "nan-stack.tif/1": 2, **stack_pages}
    lines = {line.split(": ")[0].split("/")[-1]: line for line in capsys.readouterr().err.splitlines()}
    for name, reason in {
        "empty.png": "is empty (0 bytes): copy or download it again.",
        "cut.png": "cannot be read",
        "cutstack.tif": "cannot be read",
        "text.png": "cannot be read (not an image of a known format)",
        "nan.tif": "not finite",
        "nan-stack.tif": "page 2: the image holds values that are not finite",
        "secret.png": "cannot be read (Permission denied): check the path and who may read it.",
    }.items():
        assert reason in lines.pop(name)
    assert not lines


def test_what_is_not_a_number_can_be_background(segment: Run) -> None:
    image = SQUARES.astype(np.float32)
    image[SQUARES.shape[0] - 1] = np.nan
    tifffile.imwrite("nan.tif", image)
    assert segment("nan.tif") == 1
    assert segment("nan.tif", "--nan", "background", "--formats", "labels", "overlays", "objects", "--overwrite") == 0
    assert counts() == {"nan.tif": 2}


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1)])
def test_the_smallest_images(segment: Run, shape: tuple[int, int]) -> None:
    tifffile.imwrite("small.tif", np.ones(shape, np.uint8))
    assert segment("small.tif", "--formats", "labels", "overlays", "rois", "geojson", "coco", "objects") == 0
    assert labels("small.tif").shape == shape


def test_folders_are_mirrored_and_nothing_is_overwritten(segment: Run, tmp_path: Path) -> None:
    for name in ("plate/a/1.png", "plate/b/1.png", "plate/b/1.tif", "other/1.png", "plate/.hidden.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(name, SQUARES)
    assert segment("plate", "--out", "plate/out") == 0
    assert list(counts("plate/out")) == ["a/1.png", "b/1.png", "b/1.tif"]
    assert (labels("b/1.tif.tif", "plate/out") == LABELS).all()
    # Results are not taken for images.
    assert segment("plate", "--out", "plate/out") == 0
    assert len(counts("plate/out")) == 3
    assert segment("plate/*/1.png", "other", "plate/b/1.tif", "--out", "more") == 0
    assert list(counts("more")) == ["other/1.png", "plate/a/1.png", "plate/b/1.png", "plate/b/1.tif"]


def test_names_that_results_cannot_have(segment: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    png = cv2.imencode(".png", SQUARES)[1].tobytes()
    long = ["x" * 240 + "1.png", "x" * 240 + "2.png"]
    for name in long:
        (Path("in") / name).write_bytes(png)
    assert segment("in") == 0
    # Shortened, and still two.
    assert list(counts()) == long and len(list(Path("segmented/labels").iterdir())) == 2
    Path("odd").mkdir()
    try:
        (Path("odd") / os.fsdecode(b"latin-\xe4.png")).write_bytes(png)
    except OSError:
        pytest.skip("This file system takes no names but in UTF-8.")
    cv2.imwrite("odd/a.png", SQUARES)
    assert segment("odd", "--out", "out") == 1
    assert counts("out") == {"a.png": 2}
    assert "its name is not valid UTF-8: rename it." in capsys.readouterr().err


def test_names_that_tables_and_terminals_would_obey(
    segment: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Path("in").mkdir()
    names = ["'=2.png", "+1.png", "=cmd|' !A0.png", "@x.png", "a\rb.png", "c\nd.png", "e\x1b[2J.png"]
    for name in names:
        try:
            (Path("in") / name).write_bytes(cv2.imencode(".png", SQUARES)[1].tobytes())
        except OSError:
            pytest.skip("This file system does not take all names.")
    (Path("in") / "f\x1b[31m.png").touch()
    assert segment("in") == 1
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err and "f\\x1b[31m.png: is empty" in said.err
    with Path("segmented/counts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    safe = ["''=2.png", "'+1.png", "'=cmd|' !A0.png", "'@x.png", "a\rb.png", "c\nd.png", "e\x1b[2J.png"]
    assert [row["image"] for row in rows] == safe and all(row["objects"] == "2" for row in rows)
    assert segment("in", "--formats", "rois") == 1
    assert "0 segmented, 7 done before, 1 failed" in capsys.readouterr().out
    assert len(list(Path("segmented/rois").iterdir())) == 7


def test_results_are_named_without_the_images_suffix_where_that_tells_them_apart(
    segment: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in/sub").mkdir(parents=True)
    for name in ("in/a.png", "in/sub/a.png"):
        cv2.imwrite(name, SQUARES)
    assert segment("in") == segment("in") == 0
    assert list(counts()) == ["a.png", "sub/a.png"] and (labels("sub/a.tif") == LABELS).all()
    with Path("segmented/run_lengths.csv").open(newline="") as file:
        assert [row["ImageId"] for row in csv.DictReader(file)] == ["a", "a", "sub/a", "sub/a"]
    # What was begun with suffixes goes on with them.
    settings = Path("segmented/segment.json")
    settings.write_text(settings.read_text().replace('"results named without suffix": true,', ""))
    assert segment("in") == 0 and "2 done before" in capsys.readouterr().out
    assert segment("in", "--overwrite") == 0
    # Another image of the same name: in that folder one would replace the other.
    cv2.imwrite("in/a.tif", SQUARES)
    capsys.readouterr()
    assert segment("in") == 2
    assert "results of other options (results named without suffix)" in capsys.readouterr().err
    assert segment("in", "--out", "both") == 0
    assert (labels("a.tif.tif", "both") == LABELS).all() and (labels("a.png.tif", "both") == LABELS).all()
    assert "\na.png," in Path("both/run_lengths.csv").read_text()


def test_a_folder_named_as_the_result_of_a_file(segment: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("in/plain.tif/a.png", "in/plain.png", "in/z.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(name, SQUARES)
    assert segment("in") == 1
    assert list(counts()) == ["plain.png", "z.png"]
    assert "in/plain.tif/a.png: Its result" in (said := capsys.readouterr().err) and said.count("\n") == 1


def test_what_is_passed_over_is_told(segment: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in/sub").mkdir(parents=True)
    cv2.imwrite("in/a.png", SQUARES)
    for name in ("b.vsi", "sub/c.VSI", "d.oib", "e.txt", ".hidden.txt", "README"):
        (Path("in") / name).touch()
    assert segment("in") == 0
    assert capsys.readouterr().out.splitlines()[0] == (
        "Passed over: 1 .oib, 2 .vsi, which Karyon cannot read: export OME-TIFF of them, by the microscope's program "
        "or by Fiji with Bio-Formats; 1 .txt, 1 without suffix, which Karyon does not read: save images among "
        "them as TIFF or PNG."
    )
    assert segment("in/b.vsi", "--out", "more") == 1
    assert "in/b.vsi: is a .vsi file, which Karyon cannot read: export OME-TIFF of it" in capsys.readouterr().err
    assert segment("in/sub") == 2
    assert "in/sub names no image" in (said := capsys.readouterr().err) and "Passed over: 1 .vsi, which" in said


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("nowhere",), "nowhere names no image: expected a file, a folder or a pattern"),
        (("*.tif",), "*.tif names no image"),
        (("a.png", "--model", "unheard"), "There is no model unheard"),
        (("a.png", "--out", "a.png"), "a.png cannot be written (File exists): see that nothing is in its way"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], message: str
) -> None:
    write_bundle(tmp_path / "bundle")
    cv2.imwrite("a.png", SQUARES)
    assert run("segment", "--model", tmp_path / "bundle", "--device", "cpu", *args) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--diameter", "0"), "argument --diameter: 0 is not a size: expected px, such as 30, or um, such as 12um"),
        (("--diameter", "x"), "x is not a size"),
        (("--diameter", "inf"), "inf is not a size"),
        (("--diameter", "0um"), "0um is not a size"),
        (("--pixel-size", "-1"), "argument --pixel-size: -1 is not the size of a pixel: expected um, such as 0.325"),
        (("--channel", "0"), "argument --channel: 0 is not a channel: expected 1, 2, ..."),
        (("--channel", "red"), "red is not a channel"),
        (("--channel", "1,2"), "1,2 is not a channel: expected 1, 2, ..., or three such as 1,2,3"),
        (("--formats", "gif"), "invalid choice: 'gif'"),
        (("--dev", "cpu"), "There is no option --dev (did you mean --device?); see python -m cli segment --help."),
        (("--pixelsize=1",), "There is no option --pixelsize (did you mean --pixel-size?)"),
        (("--xyz", "1"), "There is no option --xyz; see"),
        (("--out",), "argument --out: expected one argument"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    run: Run, capsys: pytest.CaptureFixture[str], option: tuple[str, str], message: str
) -> None:
    assert run("segment", "a.png", *option) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_what_was_inverted_and_what_is_doubtful_is_said(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    normalization = {"class_path": "karyon.preprocessing.PercentileNormalize", "init_args": {"dark_background": True}}
    preprocessing = {"channels": 1, "image_size": None, "normalization": normalization}
    # The stand-in model is the surer the brighter a pixel is.
    write_bundle(tmp_path / "bundle", preprocessing=preprocessing, doubt_below=0.985, object_diameter=None)
    for name, image in (("bright", 255 - SQUARES), ("dim", np.where(SQUARES, 170, 0)), ("good", SQUARES)):
        image = image.astype(np.uint8)
        image[:2, :2] = 255 - image[0, 0]  # something of full contrast
        cv2.imwrite(f"{name}.png", image)
    assert run("segment", "*.png", "--model", "bundle", "--formats", "probability", "membranes") == 0
    said = capsys.readouterr().out
    assert "Inverted, since their background is bright: bright.png." in said
    with Path("segmented/counts.csv").open(newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert rows["bright.png"]["note"] == "inverted" and rows["good.png"]["note"] == ""
    assert rows["dim.png"]["note"] == "doubtful" and "Doubtful, look at them first: dim.png." in said
    assert float(rows["good.png"]["confidence"]) > 0.985 > float(rows["dim.png"]["confidence"]) > 0.7
    inside, outside = (tifffile.imread(f"segmented/{kind}/good.tif") for kind in ("probability", "membranes"))
    assert inside.dtype == np.float32 and np.array_equal(outside, 1 - inside) and inside[SQUARES > 0].min() > 0.5


def test_an_image_in_which_nothing_is_found_gets_a_word(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(tmp_path / "bundle", object_diameter=None)
    for name, image in (("empty", np.zeros_like(SQUARES)), ("good", SQUARES)):
        cv2.imwrite(f"{name}.png", image.astype(np.uint8))
    assert run("segment", "*.png", "--model", "bundle", "--background", "bright") == 0
    said = capsys.readouterr().out
    assert "Nothing was found in empty.png." in said
    # Nor does an option that cannot do what it says pass without one.
    assert "takes images as they are and inverts none: --background bright changes nothing." in said
    with Path("segmented/counts.csv").open(newline="") as file:
        notes = {row["image"]: row["note"] for row in csv.DictReader(file)}
    assert notes == {"empty.png": "nothing found", "good.png": ""}


def test_a_model_of_one_pixel_size_sees_images_at_that_scale(run: Run, tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", pixel_size=0.5, object_diameter=None)
    tifffile.imwrite("a.tif", SQUARES, resolution=(40000, 40000), resolutionunit="CENTIMETER")
    assert run("segment", "a.tif", "--model", "bundle") == 0
    with Path("segmented/counts.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["note"] == "seen 0.5 times as large"
