"""The challenge's test sections by the real command line: scored where their annotation is at hand, and submitted."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from config_files import ROOT

Run = Callable[..., int]
Small = Callable[[Path], list[object]]

FOLDER = Path("runs/isbi-unet/version_0")


def test_the_challenges_sections_are_scored_and_submitted(
    run: Run, small: Small, tiny_stacks: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(tiny_stacks, tmp_path / "stacks")
    volume = tifffile.imread(root / "test-volume.tif")
    args = [*small(ROOT / "configs" / "isbi2012" / "unet.yaml"), "--data.init_args.root", root]
    assert run("fit", *args, "--test_after_fit", "false") == 0
    # A made-up annotation: what is bright.
    tifffile.imwrite(root / "test-labels.tif", np.where(volume > 100, 255, 0).astype(np.uint8))
    assert run("test", *args) == 0
    with (FOLDER / "test" / "image_scores.csv").open(newline="") as file:
        scored = {row["image"]: int(row["objects_true"]) for row in csv.DictReader(file)}
    assert scored.keys() == {"test-volume-00", "test-volume-01"} and min(scored.values()) > 1

    assert run("predict", *args) == 0
    submission = tifffile.imread(FOLDER / "predict" / "probability.tif")
    assert (submission.dtype, submission.shape) == (np.float32, volume.shape)
    assert submission.min() >= 0 and submission.max() <= 1
    assert {path.stem for path in (FOLDER / "predict" / "overlays").glob("*.png")} == scored.keys()
