"""One model finds the same objects in a data module, on the command line and in Python, by torch and ONNX Runtime."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from config_files import ROOT
from small_runs import Run, Small

from karyon import load_model
from karyon.metrics.matching import match_instances

BUNDLE = Path("runs/folder/version_0/bundle")


@pytest.fixture
def by_torch(exported: Path, tmp_path: Path) -> Path:
    """The bundle without its ONNX file."""
    folder = shutil.copytree(exported / BUNDLE, tmp_path / "by-torch")
    (folder / "model.onnx").unlink()
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "onnx": None}))
    return folder


def segmented(run: Run, images: Path, model: Path, out: str) -> dict[str, np.ndarray]:
    assert run("segment", images, "--model", model, "--device", "cpu", "--out", out, "--formats", "labels") == 0
    return {path.name.split(".")[0]: tifffile.imread(path) for path in Path(out, "labels").iterdir()}


def test_predict_segment_and_python_find_the_same_objects(
    run: Run, exported: Path, by_torch: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predicted = {path.stem: tifffile.imread(path) for path in (exported / "predictions" / "labels").iterdir()}
    assert len(predicted) == 10 and sum(labels.max() for labels in predicted.values()) > 20

    typed = segmented(run, tiny_folder / "images", by_torch, "torch")
    assert "on cpu (PyTorch)" in capsys.readouterr().out
    model = load_model(by_torch, device="cpu")
    for name, labels in predicted.items():
        assert (typed[name] == labels).all(), name
        assert (model.segment(tifffile.imread(tiny_folder / "images" / f"{name}.tif")).labels == labels).all(), name

    by_onnx = segmented(run, tiny_folder / "images", exported / BUNDLE, "onnx")
    assert "on cpu (ONNX Runtime)" in capsys.readouterr().out
    for name, labels in predicted.items():
        matching = match_instances(labels, by_onnx[name])
        assert matching.n_true == matching.n_pred and (matching.best_ious > 0.99).all(), name


def test_predict_goes_on_past_files_that_cannot_be_used(
    run: Run,
    exported: Path,
    tiny_folder: Path,
    small: Small,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copytree(exported / "runs", "runs")
    shutil.copytree(tiny_folder / "images", "images")
    tifffile.imwrite("images/3.tif", np.full((64, 64), np.nan, np.float32))
    Path("images/5.tif").write_bytes(Path("images/5.tif").read_bytes()[:-50])
    Path("images/7.tif").write_bytes(b"")
    Path("images/8.vsi").touch()
    resolution = {"resolution": (4e4, 4e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite("images/9.tif", tifffile.imread("images/9.tif"), **resolution)
    network = (
        "{class_path: karyon.networks.unet.UNet, init_args: {out_channels: 3, widths: [8, 16], dropout: [0.0, 0.0]}}"
    )
    args = [*small(ROOT / "configs" / "folder.yaml"), "--model.init_args.network", network]
    args += ["--data.init_args.predict_root", "images", "--data.init_args.eval_batch_size", 3]
    assert run("predict", *args, "--out", "answer", "--data.init_args.num_workers", 1) == 1
    said = capsys.readouterr()
    assert "7 predicted, 0 done before, 3 failed" in said.out
    assert "Passed over: 1 .vsi, which Karyon cannot read: export OME-TIFF" in caplog.text
    lines = [line for line in said.err.splitlines() if line.startswith("  images/")]
    assert [line.split(": ")[0] for line in lines] == [f"  images/{k}.tif" for k in (3, 5, 7)]
    assert "not finite" in lines[0] and "cannot be read" in lines[1] and "is empty" in lines[2]
    rows = list(csv.DictReader(Path("answer/objects.csv").read_text().splitlines()))
    assert "9" in {row["image"] for row in rows}
    for row in rows:
        assert row["area_um2"] == (f"{int(row['area']) / 16:.6g}" if row["image"] == "9" else "")
    for k in range(9):
        path, whole = (folder / "labels" / f"{k}.tif" for folder in (Path("answer"), exported / "predictions"))
        assert path.exists() == (k not in (3, 5, 7)) and (not path.exists() or path.read_bytes() == whole.read_bytes())
