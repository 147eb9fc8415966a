"""A bundle says and holds what its checkpoint did, and its ONNX file gives what torch gives."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tifffile
import torch
from config_files import ROOT
from small_runs import Run, Small

import karyon
from cli.bundle_export import inherited_licence, training_diameter, weights_licence
from karyon import load_model
from karyon.bundle import read_card, write_card
from karyon.inference.onnx_file import write_onnx
from karyon.instances import Instances, median_diameter
from karyon.losses import SoftDice
from karyon.model_names import MODELS
from karyon.networks.unet import UNet
from karyon.representations.border.loss import Border
from karyon.representations.distance.loss import Distance
from karyon.representations.flow.loss import Flow
from karyon.representations.foreground.loss import Foreground
from karyon.representations.star.loss import Star

CHECKPOINTS = Path("runs/folder/version_0/checkpoints")
BUNDLE = Path("runs/folder/version_0/bundle")


def test_a_card_says_what_its_run_did(exported: Path, tiny_folder: Path) -> None:
    said = (exported / "said").read_text()
    assert f"segment IMAGES --model {BUNDLE}" in said and "Only 2 validation images to choose by" in said
    card = read_card(exported / BUNDLE)
    tuned = json.loads((exported / CHECKPOINTS / "best.parameters.json").read_text())
    assert tuned["parameters"].items() <= card.model["postprocessing"]["init_args"].items()
    assert card.metrics["val"]["val/iou"] == pytest.approx(tuned["after"])
    assert (card.name, card.licence, card.version, card.training["seed"]) == ("folder", "CC0-1.0", 2, 42)
    assert card.preprocessing["normalization"]["class_path"] == "karyon.preprocessing.PercentileNormalize"
    labels = [tifffile.imread(path) for path in (tiny_folder / "labels").iterdir()]
    diameters = [median_diameter(Instances.from_labels(image)) for image in labels]
    assert card.object_diameter is not None and min(diameters) <= card.object_diameter <= max(diameters)


def test_a_checkpoint_is_the_model_that_export_makes_of_it(
    exported: Path, tiny_folder: Path, tmp_path: Path, refused: Callable[..., Any]
) -> None:
    shutil.copytree(exported / BUNDLE.parent, tmp_path / "run")
    checkpoint, bundle = tmp_path / "run" / "checkpoints" / "best.ckpt", tmp_path / "run" / "bundle"
    # By torch, too.
    write_card(bundle, dataclasses.replace(read_card(bundle), onnx=None))
    model, other = load_model(checkpoint, device="cpu"), load_model(bundle, device="cpu")
    assert (model.card.model, model.card.preprocessing) == (other.card.model, other.card.preprocessing)
    for path in (tiny_folder / "images").iterdir():
        found, expected = (one.segment(tifffile.imread(path), diameter=None) for one in (model, other))
        assert (found.labels == expected.labels).all() and (found.scores == expected.scores).all()
    assert (karyon.segment(tifffile.imread(path), checkpoint, diameter=None) == found.labels).all()

    config = tmp_path / "run" / "config.yaml"
    text, tuned = config.read_text(), checkpoint.with_name("best.parameters.json")
    for old, new, problem in (
        ("karyon.networks.unet.UNet", "os.system", "asks for os.system, which is not one of the classes"),
        ("DenseSegmenter", "TwoStage\n  init_args: {}\nrest:", "is of a TwoStage, which cannot be a bundle"),
        ("model:", "no:", "config.yaml is not a readable config of a run"),
        ("\ndata:\n", "\ndata: [1]\nrest:\n", "config.yaml is not a readable config of a run"),
    ):
        config.write_text(text.replace(old, new))
        with refused(problem):
            load_model(checkpoint, device="cpu")
    config.write_text(text)
    content = json.loads(tuned.read_text())
    content["config"]["model"]["init_args"]["postprocessing"]["init_args"]["threshold"] = 0.99
    tuned.write_text(json.dumps(content))
    assert load_model(checkpoint, device="cpu").card.model["postprocessing"]["init_args"]["threshold"] == 0.99
    tuned.write_text(json.dumps({**content, "checkpoint_sha256": "other"}))
    with pytest.warns(UserWarning, match="was tuned for an earlier best.ckpt"):
        assert load_model(checkpoint, device="cpu").card.model["postprocessing"]["init_args"]["threshold"] < 0.99
    checkpoint.write_bytes(checkpoint.read_bytes()[:-99])
    with refused("best.ckpt is not a readable checkpoint"):
        load_model(checkpoint)


def test_a_model_of_karyons_is_written_with_its_file_for_onnx_runtime(
    run: Run, tmp_path: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("export", "nuclei", "--diameter", 21, "--format", "torch") == 0
    mine, card = read_card(Path("nuclei")), read_card(MODELS / "nuclei")
    changed = {"object_diameter": 21.0, "weights": mine.weights, "onnx": mine.onnx}
    assert mine == dataclasses.replace(card, **changed) and Path("nuclei/model.onnx").is_file()
    # Half precision stays what it is.
    assert mine.weights["precision"] == card.weights["precision"] and mine.weights["file"] == "weights.pt"
    image = np.random.default_rng(0).random((64, 64))
    ours, theirs = (load_model(name, "cpu").segment(image, diameter=None) for name in ("nuclei", MODELS / "nuclei"))
    assert (ours.labels == theirs.labels).all()
    assert "is the bundle itself" in refusal("export", "nuclei", "--out", "nuclei")
    assert "drop --licence" in refusal("export", MODELS / "nuclei", "--licence", "MIT", "--out", "other")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "addition"),
    [("folder", None), ("quickstart", "representations/flow"), ("dsb2018/detector", None)],
)
def test_other_models_are_exported_and_applied(
    config: str, addition: str | None, run: Run, small: Small, tiny_folder: Path
) -> None:
    first, second, *rest = small(ROOT / "configs" / f"{config}.yaml")
    more = ["--config", ROOT / "configs" / f"{addition}.yaml"] if addition else []
    assert run("fit", first, second, *more, *rest, "--name", "mine", "--test_after_fit", "false") == 0
    assert run("export", "runs/mine/version_0/checkpoints/best.ckpt", "--out", "bundle", "--half") == 0
    assert Path("bundle/model.onnx").exists() == (config != "dsb2018/detector")
    image = tifffile.imread(tiny_folder / "images" / "0.tif")
    assert load_model("bundle", device="cpu").segment(image).labels.shape == image.shape[:2]


def test_what_is_missing_is_one_sentence(refusal: Callable[..., str]) -> None:
    assert "There is no checkpoint no.ckpt: name a file" in refusal("export", "no.ckpt")
    Path("bad.ckpt").write_text("x")
    assert "bad.ckpt is not a readable checkpoint" in refusal("export", "bad.ckpt")
    torch.save({"state_dict": {}}, "alone.ckpt")
    assert "config.yaml is not a readable config" in refusal("export", "alone.ckpt")


def test_the_diameter_is_that_of_the_training_objects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[:2, :2], labels[5:9, 5:9], labels[10:12, 10:18] = 1, 2, 5
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for k in range(10):
            # Two files of one content would count as one.
            tifffile.imwrite(tmp_path / folder / f"{k}.tif", labels if folder == "labels" else labels + np.uint8(k))
    data = {"class_path": "datamodules.folder.FolderDataModule", "init_args": {"root": str(tmp_path)}}
    assert training_diameter(data) == pytest.approx(2 * np.sqrt(16 / np.pi), abs=0.01)
    data["init_args"] = {"root": str(tmp_path / "gone")}
    assert training_diameter(data) is None
    assert "The size of the training objects is not known" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("channels", "representation"),
    [(1, Foreground(SoftDice())), (3, Border()), (2, Distance()), (33, Star()), (3, Flow())],
    ids=lambda value: type(value).__name__,
)
def test_onnx_gives_what_torch_gives_for_any_size(tmp_path: Path, channels: int, representation: Any) -> None:
    torch.manual_seed(0)
    network = UNet(out_channels=channels, widths=[4, 8, 16], dropout=[0, 0, 0.1], normalization=torch.nn.BatchNorm2d)
    write_onnx(network.eval(), representation, tmp_path / "model.onnx", channels=3)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for shape in ((1, 3, 64, 96), (2, 3, 37, 50)):
        image = torch.rand(shape)
        with torch.inference_mode():
            expected = representation.maps(network(image)).numpy()
        (maps,) = session.run(None, {"image": image.numpy()})
        assert maps.shape == expected.shape
        np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("path", "init_args"),
    [
        ("mine.Data", {}),
        ("datamodules.folder.FolderDataModule", {"root": ".", "layout": "mine.Layout"}),
        ("datamodules.folder.FolderDataModule", {"root": ".", "layout": '{"class_path": "mine.Layout"}'}),
        ("datamodules.folder.FolderDataModule", {"root": ".", "layout": {"class_path": "a.B", "init_args": {"c": 1}}}),
        ("datamodules.crops.CropDataModule", {"images": {"class_path": "mine.Data"}}),
    ],
)
def test_data_that_code_of_others_would_read_is_not_measured(
    path: str, init_args: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cli.bundle_export.ArgumentParser", lambda **_: pytest.fail("parsed"))
    assert training_diameter({"class_path": path, "init_args": init_args}) is None
    assert "give --trust mine or --diameter" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "binding", "licence"),
    [(None, "", "not stated"), ("MIT", "", "MIT"), (None, "CC0-1.0", "CC0-1.0"), ("CC0-1.0", "CC0-1.0", "CC0-1.0")],
)
def test_nobody_is_given_a_licence_that_was_not_chosen(asked: str | None, binding: str, licence: str) -> None:
    assert weights_licence(asked, binding) == licence


def test_weights_are_under_the_licence_of_what_they_learned_from(
    run: Run, small: Small, refusal: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Several data sets in one training, from its check to its card, and one that goes on from it."""
    config = [ROOT / "configs" / "dsb2018" / name for name in ("nuclei.yaml", "tissue.yaml")]
    network = "{class_path: karyon.networks.unet.UNet, init_args: {out_channels: 3, widths: [8, 8], dropout: [0, 0]}}"
    args = [*small(*config), "--model.init_args.network", network]
    assert run("check", *args) == 0
    assert "DSB2018: 9 to train on, 1 to validate on, 4 to test on. MoNuSeg: 6 to train on" in capsys.readouterr().out
    assert run("fit", *args) == run("test", *args) == 0
    record = json.loads(Path("runs/tissue/version_0/test/record.json").read_text())
    assert record["fit"]["data"]["datasets"]["MoNuSeg"]["images"] == {"train": 6, "val": 2, "test": 2}
    assert {"test/dsb_score/DSB2018", "test/dsb_score/MoNuSeg"} < record["test"]["metrics"].keys()
    best = Path("runs/tissue/version_0/checkpoints/best.ckpt")
    assert "under CC-BY-NC-SA-4.0" in refusal("export", best, "--licence", "CC0-1.0")
    assert run("export", best, "--out", "bundle") == 0
    card = read_card(Path("bundle"))
    assert card.licence == card.data["licence"] == "CC-BY-NC-SA-4.0" and card.data["weights"] == [1.0, 2.0]
    assert [entry["class_path"].rpartition(".")[2] for entry in card.data["datasets"]] == [
        "DSB2018DataModule",
        "MoNuSegDataModule",
    ]
    for start in ("bundle", best):
        config = {"data": {"class_path": "datamodules.folder.FolderDataModule"}, "start_from": str(start)}
        assert inherited_licence(config) == "CC-BY-NC-SA-4.0"
