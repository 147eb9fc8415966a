"""From each layout into each other one, and back, nothing is lost but what is said; and each can be trained from."""

import contextlib
import io
import shutil
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from config_files import ROOT, learned
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools.coco import COCO
from scipy import ndimage
from small_runs import Run, Small

from datamodules.drawing import draw_nuclei
from karyon.labels import relabel
from karyon.layouts.all_layouts import LAYOUTS, find_layout
from karyon.layouts.mask_files import MaskFiles
from karyon.layouts.protocol import AnnotatedImage

Rows = list[dict[str, str]]

# Few ids on few pixels: objects touch each other and the border, have holes and several parts, meet at corners.
LABELS = arrays(
    np.int32,
    array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.sampled_from([0, 0, 1, 2, 3, 300, 70000]),
)
KEEP_IDS = ("karyon", "stardist", "cellpose")
DATA = cv2.imencode(".png", np.arange(25, dtype=np.uint8).reshape(5, 5))[1].tobytes()


def taken_for_a_binary_mask(labels: np.ndarray) -> bool:
    return len(np.unique(labels[labels > 0])) == 1 and ndimage.label(labels, np.ones((3, 3)))[1] > 1


def write_and_read(labels: np.ndarray, layout: str, folder: Path) -> np.ndarray:
    shutil.rmtree(folder, ignore_errors=True)
    data = cv2.imencode(".png", np.zeros(labels.shape, np.uint8))[1].tobytes()
    image = AnnotatedImage("p/a b", Path("x.png"), lambda: data, lambda size: labels)
    writer = LAYOUTS[layout].writer
    writer.write(folder, image, np.zeros(labels.shape, np.uint8), labels)
    writer.finish(folder, [image.name])
    assert (folder / writer.completing(image.name)).exists()
    (found,) = find_layout(folder).images(folder)
    assert found.name == ("p%2Fa b" if layout == "dsb2018" else image.name) and not found.problem
    assert found.data() == data
    return found.read()[1]


@given(LABELS, st.sampled_from(list(LAYOUTS)), st.sampled_from(list(LAYOUTS)))
def test_every_label_image_goes_through_any_two_layouts(
    tmp_path_factory: pytest.TempPathFactory, labels: np.ndarray, first: str, second: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "pair"
    assume(labels.any() or "dsb2018" not in (first, second))
    assume(not (taken_for_a_binary_mask(labels) and {first, second} & set(KEEP_IDS)))
    once = write_and_read(labels, first, folder)
    assert (once == (labels if first in KEEP_IDS else relabel(labels))).all()
    twice = write_and_read(once, second, folder)
    assert (twice == (once if second in KEEP_IDS else relabel(once))).all()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images and their label images, one in a subfolder; not to be changed."""
    root = tmp_path_factory.mktemp("pairs")
    for k in range(10):
        pixels, labels = draw_nuclei(np.random.default_rng(k), (64, 64), "fluorescence")
        name = f"{'deep/' * (k == 3)}{k}"
        for folder in ("images", "labels"):
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / "images" / f"{name}.png"), pixels[..., 0])
        tifffile.imwrite(root / "labels" / f"{name}.tif", labels.astype(np.uint16))
    return root


def content(root: Path) -> dict[str, tuple[bytes, list[list[int]]]]:
    """By name as DSB2018 has it: the image's file and the label image."""
    images = find_layout(root).images(root)
    return {image.name.replace("/", "%2F"): (image.data(), image.read()[1].tolist()) for image in images}


def test_all_layouts_in_turn_and_back(run: Run, pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    circle = ["karyon", "coco", "cellpose", "qupath", "aperio", "stardist", "dsb2018", "karyon"]
    roots = [pairs, *(Path(str(number)) for number in range(1, len(circle)))]
    for (source, out), to in zip(pairwise(roots), circle[1:], strict=True):
        assert run("convert", source, "--to", to, "--out", out) == 0
        assert "10 converted, 0 done before, 0 failed" in capsys.readouterr().out
        assert content(out) == content(pairs)


def test_pycocotools_reads_the_joined_file(run: Run, pairs: Path) -> None:
    assert run("convert", pairs, "--to", "coco", "--out", "out") == 0
    with contextlib.redirect_stdout(io.StringIO()):
        found = COCO("out/coco.json")
    assert len(found.imgs) == 10
    for image_id, image in found.imgs.items():
        labels = tifffile.imread(pairs / "labels" / Path(image["file_name"]).with_suffix(".tif"))
        assert (Path("out/images") / image["file_name"]).is_file()
        annotations = found.imgToAnns[image_id]
        assert [annotation["label"] for annotation in annotations] == list(range(1, labels.max() + 1))
        for annotation in annotations:
            assert (found.annToMask(annotation) == (labels == annotation["label"])).all()


@pytest.mark.parametrize(
    ("suffix", "pixels"),
    [
        (".tif", np.arange(600, dtype=np.uint16).reshape(20, 30) * 109),
        (".tif", np.arange(1800, dtype=np.uint16).reshape(20, 30, 3) * 36),
        (".bmp", np.arange(1800, dtype=np.uint16).reshape(20, 30, 3).astype(np.uint8)),
    ],
)
def test_masks_of_one_nucleus_come_with_a_png_of_the_same_pixels(
    suffix: str, pixels: np.ndarray, tmp_path: Path
) -> None:
    labels = np.ones((20, 30), np.int32)
    path = tmp_path / f"a{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, pixels)
    else:
        cv2.imwrite(str(path), pixels[..., ::-1])
    image = AnnotatedImage("a", path, path.read_bytes, lambda size: labels)
    MaskFiles().writer.write(tmp_path / "out", image, *image.read())
    (found,) = MaskFiles().images(tmp_path / "out")
    back, _ = found.read()
    assert back.dtype == pixels.dtype and (back == pixels).all()


def test_broken_images_are_listed_and_the_rest_is_converted(
    run: Run, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = shutil.copytree(pairs, tmp_path / "source")
    (source / "images" / "1.png").write_bytes(b"")
    (source / "labels" / "2.tif").write_bytes((source / "labels" / "2.tif").read_bytes()[:200])
    (source / "labels" / "4.tif").unlink()
    tifffile.imwrite(source / "labels" / "5.tif", np.zeros((64, 64), np.uint8))
    tifffile.imwrite(source / "labels" / "6.tif", np.ones((64, 60), np.uint8))
    (source / "images" / "7.png").unlink()
    tifffile.imwrite(source / "images" / "7.tif", np.zeros((64, 64), np.float32))
    assert run("convert", source, "--to", "dsb2018", "--out", "out") == 1
    said = capsys.readouterr()
    assert "[10/10] deep/3" in said.out and "about 0 s left" in said.out
    assert "4 converted, 0 done before, 6 failed" in said.out
    lines = said.err.splitlines()
    assert len(lines) == 6
    for line, number, reason in zip(
        lines,
        (1, 2, 4, 5, 6, 7),
        ("is empty", "2.tif cannot be read", "has no label image", "holds no object", "64 x 60 px", "float32 pixels"),
        strict=True,
    ):
        assert line.startswith(f"  {source}/images/{number}.") and reason in line
    assert sorted(path.name for path in Path("out").iterdir()) == ["0", "8", "9", "convert.json", "deep%2F3"]
    shutil.copytree(pairs, source, dirs_exist_ok=True)
    (source / "images" / "7.tif").unlink()
    assert run("convert", source, "--to", "dsb2018", "--out", "out") == 0
    assert "6 converted, 4 done before, 0 failed" in capsys.readouterr().out
    assert content(Path("out")) == content(pairs)


@pytest.mark.parametrize("to", LAYOUTS)
def test_an_interrupt_loses_nothing_and_leaves_nothing_half(
    to: str, run: Run, pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, calls = Path.replace, 0

    def interrupt(path: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise KeyboardInterrupt
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupt)
        assert run("convert", pairs, "--to", to, "--out", "out") == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert run("convert", pairs, "--to", to, "--out", "out") == 0
    assert " 0 failed" in capsys.readouterr().out
    assert content(Path("out")) == content(pairs)
    assert not [path for path in Path("out").rglob("*") if "writing" in path.name]


def test_other_files_and_other_options_are_not_mixed(
    run: Run, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = shutil.copytree(pairs, tmp_path / "source")
    assert run("convert", source, "--to", "stardist", "--out", "out") == 0
    for args, sentence in [
        (("source", "--to", "karyon", "--out", "out"), "out holds results of other options (to): choose another --out"),
        (("source", "--to", "cellpose", "--out", "source"), "source lies in source, which would be read again"),
        (("source", "--to", "cellpose", "--out", "source/images/x"), "choose another --out"),
        (("out", "--to", "karyon", "--out", "source"), "source holds files that are not of this command"),
        (("none", "--to", "karyon", "--out", "new"), "none is not there, or not laid out as images/ and labels/"),
        (("source", "--to", "karyon", "--out", "new", "--from", "coco"), "source holds no COCO file"),
    ]:
        capsys.readouterr()
        assert run("convert", *args) == 2
        error = capsys.readouterr().err
        assert sentence in error and error.count("\n") == 1
    shutil.copytree(source / "labels", source / "masks")
    assert run("convert", "source", "--to", "coco", "--out", "new") == 2
    assert "source could be laid out as karyon (LabelFolders(labels='labels')) or stardist" in capsys.readouterr().err
    assert run("convert", "source", "--to", "coco", "--out", "new", "--from", "stardist") == 0


def test_names_that_cellpose_would_take_for_masks_are_refused(
    run: Run, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = shutil.copytree(pairs, tmp_path / "source")
    (source / "images" / "0.png").rename(source / "images" / "0_masks.png")
    (source / "labels" / "0.tif").rename(source / "labels" / "0_masks.tif")
    assert run("convert", source, "--to", "cellpose", "--out", "out") == 1
    assert "The name 0_masks ends as no image's name may in this layout" in capsys.readouterr().err


SMALL_CROP = "[{class_path: albumentations.RandomCrop, init_args: {height: 32, width: 32}}]"
SIMPLE = "{class_path: karyon.networks.simple_cnn.SimpleCNN, init_args: {in_channels: 3, out_channels: 3}}"


# The other layouts are left to be found out.
OPTION = "--data.init_args.layout"
GIVEN = {
    "cellpose": (OPTION, "karyon.layouts.cellpose.Cellpose"),
    "stardist": (OPTION, "karyon.layouts.label_folders.LabelFolders", f"{OPTION}.init_args.labels", "masks"),
}


@pytest.fixture(scope="module")
def expected_metrics() -> dict[str, Rows]:
    """What training on label images has given."""
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("to", [name for name in LAYOUTS if name != "karyon"])
def test_training_is_the_same_from_every_layout(
    to: str,
    run: Run,
    small: Small,
    pairs: Path,
    expected_metrics: dict[str, Rows],
) -> None:
    def metrics(root: Path, *layout: str) -> Rows:
        config = small(ROOT / "configs" / "folder.yaml")
        light = ("--model.init_args.network", SIMPLE, "--data.init_args.augmentations", SMALL_CROP)
        assert run("fit", *config, *light, "--data.init_args.root", root, *layout) == 0
        return learned(sorted(Path("runs").rglob("metrics.csv"))[-1])

    if not expected_metrics:
        expected_metrics["karyon"] = metrics(pairs)
    assert run("convert", pairs, "--to", to, "--out", "data") == 0
    assert metrics(Path("data"), *GIVEN.get(to, ())) == expected_metrics["karyon"]


@pytest.mark.slow
@pytest.mark.real_data
def test_real_nuclei_go_through_every_layout(run: Run, real_dsb2018: Path, tmp_path: Path) -> None:
    images = MaskFiles().images(real_dsb2018 / "stage1_train.zip")[5::111]
    originals = {image.name: (image.data(), *image.read()) for image in images}
    for to, layout in LAYOUTS.items():
        for image in images:
            _, pixels, labels = originals[image.name]
            layout.writer.write(tmp_path / to, image, pixels, labels)
        layout.writer.finish(tmp_path / to, list(originals))
        found = find_layout(tmp_path / to).images(tmp_path / to)
        assert [image.name for image in found] == list(originals)
        for image in found:
            data, _, labels = originals[image.name]
            assert image.data() == data and (image.read()[1] == labels).all()
