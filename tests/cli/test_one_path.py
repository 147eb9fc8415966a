"""One model finds the same objects in a data module, on the command line and in Python, by torch and ONNX Runtime."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from small_runs import Run

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
