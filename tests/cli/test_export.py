"""A bundle answers as the checkpoint that it was made of, and its ONNX file as the bundle."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tifffile
import torch
from config_files import ROOT

from cli.export import training_diameter, write_onnx
from datamodules.sample import DataError
from karyon import load_model
from lightning_modules.instances import Instances, median_diameter
from lightning_modules.losses import SoftDice
from lightning_modules.networks.unet import UNet
from lightning_modules.representations.border import Border, BorderDecoder
from lightning_modules.representations.distance import Distance, DistanceDecoder
from lightning_modules.representations.flow import Flow, FlowDecoder
from lightning_modules.representations.foreground import Foreground, ForegroundDecoder
from lightning_modules.representations.star import Star, StarDecoder
from lightning_modules.segmenter import DenseSegmenter

Run = Callable[..., int]
Small = Callable[[Path], list[object]]

CHECKPOINT = Path("runs/folder/version_0/checkpoints/best.ckpt")


@pytest.fixture
def trained(run: Run, small: Small, tiny_folder: Path) -> list[object]:
    args = small(ROOT / "configs" / "folder.yaml")
    assert run("fit", *args) == 0
    assert run("tune", *args, "--metric", "iou") == 0
    assert run("validate", *args) == 0
    return args


def test_a_bundle_says_and_does_what_its_checkpoint_did(
    run: Run, trained: list[object], tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("predict", *trained, "--out", "predictions") == 0
    assert run("export", CHECKPOINT, "--licence", "CC0-1.0") == 0
    folder = Path("runs/folder/version_0/bundle")
    assert f"segment IMAGES --model {folder}" in capsys.readouterr().out
    card = json.loads((folder / "card.json").read_text())
    model = load_model(folder, device="cpu")
    for path in sorted((tiny_folder / "images").iterdir()):
        found = model.segment(tifffile.imread(path)).labels.numpy()
        assert (found == tifffile.imread(f"predictions/labels/{path.stem}.tif")).all()

    tuned = json.loads(CHECKPOINT.with_suffix(".knobs.json").read_text())
    assert tuned["knobs"].items() <= card["model"]["init_args"]["decoder"]["init_args"].items()
    assert card["metrics"]["val"]["val/iou"] == pytest.approx(tuned["after"])
    assert (card["name"], card["licence"], card["version"]) == ("folder", "CC0-1.0", 1)
    assert card["preparation"]["normalization"]["class_path"] == "datamodules.transforms.PercentileNormalize"
    assert card["training"]["seed"] == 42
    labels = [tifffile.imread(path).astype(np.int64) for path in (tiny_folder / "labels").iterdir()]
    diameters = [median_diameter(Instances.from_labels(torch.from_numpy(image))) for image in labels]
    assert min(diameters) <= card["object_diameter"] <= max(diameters)


def test_what_is_missing_is_one_sentence(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", "no.ckpt") == 2
    assert "There is no checkpoint no.ckpt: name a file" in capsys.readouterr().err
    Path("bad.ckpt").write_text("x")
    assert run("export", "bad.ckpt") == 2
    assert "bad.ckpt is no readable checkpoint" in capsys.readouterr().err
    torch.save({"state_dict": {}}, "alone.ckpt")
    assert run("export", "alone.ckpt") == 2
    assert "config.yaml is no readable config" in capsys.readouterr().err


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


REPRESENTATIONS = {
    "foreground": (1, Foreground(SoftDice()), ForegroundDecoder()),
    "border": (3, Border(), BorderDecoder()),
    "distance": (2, Distance(), DistanceDecoder()),
    "star": (33, Star(), StarDecoder()),
    "flow": (3, Flow(), FlowDecoder()),
}


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_onnx_gives_what_torch_gives_for_any_size(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    channels, representation, decoder = REPRESENTATIONS[name]
    network = UNet(out_channels=channels, widths=[4, 8, 16], dropout=[0, 0, 0.1], normalization=torch.nn.BatchNorm2d)
    module = DenseSegmenter(network, representation, decoder).eval()
    write_onnx(module, tmp_path / "model.onnx", channels=3)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for shape in ((1, 3, 64, 96), (2, 3, 37, 50)):
        image = torch.rand(shape)
        with torch.inference_mode():
            expected = module.representation.maps(module(image)).numpy()
        (maps,) = session.run(None, {"image": image.numpy()})
        assert maps.shape == expected.shape
        np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-4)


def test_onnx_is_for_dense_models(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Conv2d cannot be written as ONNX"):
        write_onnx(torch.nn.Conv2d(1, 1, 1), tmp_path / "model.onnx", 1)
