"""What the plugin does without a window: objects of layers, their table, pairs to train on, what it starts."""

import csv
import json
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from bundles import write_bundle

from karyon.errors import DataError
from karyon.layouts.label_folders import LabelFolders
from karyon.napari import training
from karyon.napari.pairs import at_size_of_model, find_pairs, keep_pair
from karyon.napari.reader import get_reader
from karyon.napari.samples import fluorescence, stack
from karyon.napari.segmenting import Look, StoppedError, cached_model, features, next_doubtful, segment_layer
from karyon.napari.training import fine_tune

SQUARES = np.zeros((40, 48), np.int32)
SQUARES[5:15, 5:15], SQUARES[20:32, 20:32] = 1, 2


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A model that finds what is bright."""
    write_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_the_manifest_names_what_there_is() -> None:
    manifest = yaml.safe_load((files("karyon.napari") / "napari.yaml").read_text())
    known = {command["id"] for command in manifest["contributions"]["commands"]}
    used = [
        entry["command"] for kind in ("widgets", "readers", "sample_data") for entry in manifest["contributions"][kind]
    ]
    assert set(used) == known
    for command in manifest["contributions"]["commands"]:
        module, name = command["python_name"].split(":")
        spec = find_spec(module)
        assert (
            spec
            and spec.origin
            and (f"def {name}(" in (text := Path(spec.origin).read_text()) or f"class {name}(" in text)
        )


@pytest.mark.parametrize("rgb", [False, True])
def test_each_plane_of_a_stack_is_segmented_and_numbers_go_on(bundle: Path, rgb: bool) -> None:
    planes = np.stack([SQUARES > 0, SQUARES > 1, SQUARES > 0])[None] * np.uint8(200)
    pixels = np.stack([planes, 0 * planes, 0 * planes, 255 + 0 * planes], -1) if rgb else planes
    shares: list[float] = []
    look = Look("dark", None, colour="red" if rgb else "all")
    found = segment_layer(pixels, rgb, cached_model(str(bundle)), look, shares.append)
    assert found.labels.shape == (1, 3, 40, 48) and list(found.scores) == [1, 2, 3, 4, 5]
    assert ((found.labels > 0) == (planes > 0)).all() and len(np.unique(found.labels)) == 6
    assert shares == sorted(shares) and 0 <= shares[0] <= shares[-1] < 1

    def stop(share: float) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        segment_layer(pixels, rgb, cached_model(str(bundle)), look, stop)


def test_the_most_doubtful_object_comes_first_and_drawn_ones_not_at_all() -> None:
    labels = np.zeros((2, 6, 8), int)
    labels[0, 1:3, 1:5], labels[1, 3, 3:6], labels[1, 0, 0] = 1, 2, 7
    table = features(labels, {1: 0.9, 2: 0.4, 5: 0.1})
    assert table["index"].tolist() == [2, 1, 7] and table["area"].tolist() == [3, 8, 1]
    assert table["doubt"][:2] == pytest.approx([0.6, 0.1]) and np.isnan(table["score"][2])
    assert next_doubtful(table, set()) == (2, (1.0, 3.0, 4.0))
    assert next_doubtful(table, {2}) == (1, (0.0, 1.5, 2.5))
    assert next_doubtful(table, {1, 2}) is None
    assert len(features(0 * labels, {})["index"]) == 0


@pytest.mark.parametrize("shape", [(40, 48), (40, 48, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_kept_pair_is_what_fit_reads(tmp_path: Path, shape: tuple[int, ...], dtype: type) -> None:
    pixels = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    for name in ("a/b: c?", "plain"):
        keep_pair(tmp_path, name, pixels, SQUARES)
    images = LabelFolders().images(tmp_path)
    assert [image.name for image in images] == ["a-b- c-", "plain"]
    for image in images:
        read, labels = image.read()
        assert read.dtype == dtype and (read == pixels).all() and (labels == SQUARES).all()
    keep_pair(tmp_path, "plain", pixels + 1, SQUARES)
    assert keep_pair(tmp_path, "plain", pixels, SQUARES * (SQUARES < 2)).name == "plain.tif"
    assert [image.read()[1].max() for image in LabelFolders().images(tmp_path)] == [2, 1, 2]


@pytest.mark.parametrize(
    ("labels", "problem"), [(0 * SQUARES, "has no objects"), (SQUARES[1:], "is 39 x 48 px, the image 40 x 48")]
)
def test_what_cannot_be_trained_on_is_not_kept(labels: Any, problem: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=problem):
        keep_pair(tmp_path, "a", np.zeros((40, 48)), labels)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("known", "side"), [(None, 40), (12.4, 40), (3.1, 10), (49.6, 160)])
def test_pairs_are_brought_to_the_size_that_the_model_knows(tmp_path: Path, known: float | None, side: int) -> None:
    keep_pair(tmp_path / "pairs", "a", SQUARES.astype(np.uint8), SQUARES)
    pairs = find_pairs(tmp_path / "pairs")
    # Squares of 10 and 12 px: discs of 11.28 and 13.54 px.
    assert pairs.diameter == pytest.approx(12.41, abs=0.01)
    (image,) = LabelFolders().images(at_size_of_model(pairs, known, tmp_path / "out"))
    assert image.read()[1].shape == (side, side * 6 // 5)


def test_fine_tuning_starts_from_the_model_on_the_pairs(tmp_path: Path, bundle: Path) -> None:
    keep_pair(tmp_path / "pairs", "a", SQUARES.astype(np.uint8), SQUARES)
    work = fine_tune(tmp_path / "pairs", str(bundle), 3)
    fit, export = work.commands
    config = json.loads(Path(fit[-1]).read_text())
    assert fit[0] == "fit" and export[0] == "export" and Path(config["start_from"]) == bundle
    assert (
        config["model"]["init_args"]["network"]["class_path"] == "torch.nn.Conv2d"
        and config["data"]["init_args"]["channels"] == 1
    )
    assert config["trainer"]["max_epochs"] == config["model"]["init_args"]["scheduler"]["init_args"]["T_max"] == 3
    assert config["data"]["init_args"]["val_root"] == config["data"]["init_args"]["root"]
    assert config["checkpoint"] == {"monitor": "step", "mode": "max"}
    (folder := work.folder / "version_0").mkdir()
    with (folder / "metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["epoch", "train/loss_epoch", "val/dsb_score"], [0, 0.5, ""], [0, "", 0.1], [1, 0.4, ""]]
        )
    assert work.curves() == {"train/loss_epoch": [(0, 0.5), (1, 0.4)], "val/dsb_score": [(0, 0.1)]}
    assert fine_tune(tmp_path / "pairs", str(bundle), 3).folder != work.folder

    work.commands = [["models", "--nonsense"]]
    with pytest.raises(DataError, match=r"Fine-tuning failed: .*nonsense"):
        while work.poll():
            work.process and work.process.wait()


def test_what_is_missing_to_train_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="make both folders"):
        fine_tune(tmp_path, "nuclei", 1)
    monkeypatch.setattr(training, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="needs Karyon's project with its extra training"):
        fine_tune(tmp_path, "nuclei", 1)


def test_folders_of_results_and_of_annotated_images_are_read(tmp_path: Path) -> None:
    assert get_reader(str(tmp_path)) is None and get_reader(str(tmp_path / "a.tif")) is None
    results, pairs = tmp_path / "results", tmp_path / "pairs"
    (results / "labels").mkdir(parents=True)
    tifffile.imwrite(results / "labels" / "a.tif", SQUARES.astype(np.uint16))
    tifffile.imwrite(results / "labels" / "z.tif", np.stack([SQUARES] * 4).astype(np.uint16), photometric="minisblack")
    (results / "counts.csv").write_text("image,objects,confidence,note\na.tif,2,0.7,\n")
    (results / "objects.csv").write_text("image,id,score\na.tif,1,0.9\na.tif,2,0.5\n")
    read = get_reader(str(results))
    assert read
    (labels, given, kind), (planes, *_) = read(str(results))
    assert kind == "labels" and (labels == SQUARES).all() and planes.shape == (4, 40, 48)
    assert given["features"]["index"].tolist() == [2, 1] and given["features"]["score"].tolist() == [0.5, 0.9]
    keep_pair(pairs, "a", SQUARES.astype(np.uint8), SQUARES)
    read = get_reader(str(pairs))
    assert read and [layer[2] for layer in read(str(pairs))] == ["image", "labels"]


def test_samples_are_drawn() -> None:
    assert [layers[0][0].shape for layers in (fluorescence(), stack())] == [(256, 256), (4, 256, 256)]
    assert (fluorescence()[0][0] == stack()[0][0][0]).all()
