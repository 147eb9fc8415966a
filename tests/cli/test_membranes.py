"""The challenge's sections by the real command line: tuned, scored where they are annotated, and submitted."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from config_files import ROOT
from small_runs import Run, Small

FOLDER = Path("runs/isbi-unet/version_0")


@pytest.mark.slow
def test_membranes_are_tuned_scored_and_submitted(run: Run, small: Small, tiny_stacks: Path) -> None:
    root = shutil.copytree(tiny_stacks, Path("stacks"))
    volume = tifffile.imread(root / "test-volume.tif")
    args = [*small(ROOT / "configs" / "isbi2012" / "unet.yaml"), "--data.init_args.root", root]
    assert run("fit", *args, "--test_after_fit", "false") == 0

    assert run("tune", *args) == 0
    tuned = json.loads((FOLDER / "checkpoints" / "best.parameters.json").read_text())
    (scores,) = tuned["config"]["model"]["init_args"]["metrics"]
    with (FOLDER / "tune" / "metrics.csv").open(newline="") as file:
        best = float(list(csv.DictReader(file))[-1]["val/v_rand_threshold"])
    assert scores["init_args"]["threshold"] == pytest.approx(best)

    # A made-up annotation: what is bright.
    tifffile.imwrite(root / "test-labels.tif", np.where(volume > 100, 255, 0).astype(np.uint8))
    assert run("test", *args) == 0
    metrics = json.loads((FOLDER / "test" / "record.json").read_text())["test"]["metrics"]
    assert metrics["test/v_rand_fixed"] <= metrics["test/v_rand"]
    with (FOLDER / "test" / "image_scores.csv").open(newline="") as file:
        scored = {row["image"]: int(row["objects_true"]) for row in csv.DictReader(file)}
    assert scored.keys() == {"test-volume-00", "test-volume-01"} and min(scored.values()) > 1

    assert run("predict", *args) == 0
    submission = tifffile.imread(FOLDER / "predict" / "probability.tif")
    assert (submission.dtype, submission.shape) == (np.float32, volume.shape)
    assert submission.min() >= 0 and submission.max() <= 1
    assert {path.stem for path in (FOLDER / "predict" / "overlays").glob("*.png")} == scored.keys()
