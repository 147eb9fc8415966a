"""R1's chain by the real command line: both stages are trained, and evaluated as one."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tifffile
import torch
import yaml
from config_files import COMPOSED, ROOT
from small_runs import Run, Small

from cli.records import read_run
from results.data_page import other_page

pytestmark = pytest.mark.slow

DETECTOR, CROPS, TWO_STAGE = (
    ROOT / "configs" / "reference" / f"r1-{name}.yaml" for name in ("detector", "crop-segmenter", "two-stage")
)
SMALL_CHAIN = [ROOT / "configs" / "dsb2018" / f"{name}.yaml" for name in ("detector", "crop-segmenter", "two-stage")]
Typed = Callable[..., str]
FOLDER = Path("runs/r1-two-stage")
PERCENTILES = ["--data.init_args.normalization", "karyon.preprocessing.PercentileNormalize"]


@pytest.fixture(scope="module")
def runs(small: Small, typed: Typed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs in which both stages have been trained for a step or two; not to be changed."""
    folder = tmp_path_factory.mktemp("stages")
    other = [*small(DETECTOR), *PERCENTILES, "--name", "other"]
    typed(folder, *(["fit", *args] for args in (small(DETECTOR), small(CROPS), other)))
    return folder / "runs"


@pytest.fixture
def stages(run: Run, small: Small, runs: Path) -> list[object]:
    """Arguments of the two-stage model, in a folder with trained stages."""
    shutil.copytree(runs, "runs")
    return small(TWO_STAGE)


def test_the_chain_is_tuned_validated_tested_and_predicts(run: Run, stages: list[object]) -> None:
    # Hardly trained, it is sure of nothing.
    unsure = ["--model.init_args.postprocessing.init_args.score_threshold", 0.05]
    assert run("tune", *stages, *unsure, "--metric", "iou") == 0
    tuned = json.loads((FOLDER / "parameters.json").read_text())
    assert tuned["after"] >= tuned["before"] > 0

    assert run("validate", *stages) == 0
    validated = json.loads((FOLDER / "validate" / "record.json").read_text())["val"]["metrics"]
    assert validated["val/iou"] == tuned["after"]

    assert run("test", *stages) == 0
    record = json.loads((FOLDER / "test" / "record.json").read_text())
    assert 0 < record["test"]["metrics"]["test/accuracy"] <= 1
    assert {name: stage["fit"]["model"] for name, stage in record["stages"].items()} == {
        "detector": "Detector",
        "segmenter": "CropSegmenter",
    }
    used = yaml.safe_load((FOLDER / "test" / "config.yaml").read_text())["model"]["init_args"]
    assert used["detector_checkpoint"] == "runs/r1-detector/version_0/checkpoints/best.ckpt"
    assert used["postprocessing"]["init_args"] == tuned["parameters"]

    assert run("predict", *stages) == 0
    with (FOLDER / "predict" / "counts.csv").open(newline="") as file:
        counts = {row["image"]: int(row["objects"]) for row in csv.DictReader(file)}
    assert len(counts) == 4 and sum(counts.values()) > 0
    for name, count in counts.items():
        assert tifffile.imread(FOLDER / "predict" / "labels" / f"{name}.tif").max() == count
    assert run("figure", FOLDER / "predict") == 0
    assert (FOLDER / "predict" / "figure.png").stat().st_size > 0


def test_parameters_are_those_of_both_checkpoints(
    run: Run, stages: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("tune", *stages, "--metric", "iou") == 0
    newer = Path("runs/r1-crop-segmenter/version_1")
    shutil.copytree(newer.with_name("version_0"), newer)
    checkpoint = newer / "checkpoints" / "best.ckpt"
    torch.save(torch.load(checkpoint, weights_only=True) | {"again": 1}, checkpoint)
    capsys.readouterr()
    assert run("validate", *stages) == 0
    assert "was tuned for an earlier best.ckpt or best.ckpt and is left aside" in capsys.readouterr().out


def test_bounds_tell_which_stage_loses_the_score(
    run: Run, stages: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bound", *stages, "--part", "test") == 0
    printed = capsys.readouterr().out
    whole = json.loads((FOLDER / "bound" / "record.json").read_text())
    bounds = whole["bounds"]
    assert list(bounds) == [
        f"{boxes} boxes, {masks} masks" for boxes in ("true", "found") for masks in ("true", "found")
    ]
    assert all(name in printed for name in bounds)
    assert bounds["true boxes, true masks"]["ap50"] == 1
    assert bounds["true boxes, true masks"]["dsb_score"] > bounds["found boxes, found masks"]["dsb_score"]
    # The chain's own record stays.
    assert whole["test"]["metrics"]["test/dsb_score"] == bounds["found boxes, found masks"]["dsb_score"]
    read = read_run(FOLDER / "bound" / "record.json", "chain")
    shown = other_page([read])
    assert all(f"| `chain` | {name} | {metrics['dsb_score']:.4f} | " in shown for name, metrics in bounds.items())


def test_crops_are_cut_out_of_any_data_set(run: Run) -> None:
    images = (
        "{class_path: datamodules.synthetic.SyntheticDataModule, init_args: {root: here, train: 24, size: [64, 64]}}"
    )
    small = ["--data.init_args.num_workers", 0, "--model.init_args.network.init_args.widths", "[8,8]"]
    limit = ROOT / "configs" / "debug" / "limit.yaml"
    assert run("fit", "--config", CROPS, "--config", limit, "--data.init_args.images", images, *small) == 0
    record = json.loads(Path("runs/r1-crop-segmenter/version_0/record.json").read_text())
    assert record["fit"]["steps"] > 0


def test_the_small_stages_make_a_chain(run: Run, small: Small) -> None:
    detector, crops, chain = SMALL_CHAIN
    assert run("fit", *small(detector)) == 0
    assert run("fit", *small(crops)) == 0
    assert run("test", *small(chain)) == 0
    record = json.loads(Path("runs/two-stage/test/record.json").read_text())
    assert [stage["fit"]["model"] for stage in record["stages"].values()] == ["Detector", "CropSegmenter"]


def test_every_composed_config_is_one_of_these() -> None:
    assert sorted([TWO_STAGE, SMALL_CHAIN[-1]]) == sorted(COMPOSED)


def test_what_is_missing_or_does_not_fit_is_one_sentence(refusal: Callable[..., str], small: Small, runs: Path) -> None:
    args = small(TWO_STAGE)
    assert "There is no checkpoint in runs/r1-detector: train that stage first" in refusal("test", *args)
    assert "train those, then tune and test it" in refusal("fit", *args)
    shutil.copytree(runs, "runs")
    detector, segmenter = (f"--model.init_args.{stage}_checkpoint" for stage in ("detector", "segmenter"))
    assert "There is no checkpoint in runs/nothing" in refusal("predict", *args, segmenter, "runs/nothing")
    assert "has no checkpoint of its own" in refusal("test", *args, "--ckpt_path", "last")
    assert "holds a Detector: name one of a CropSegmenter" in refusal("test", *args, segmenter, "runs/r1-detector")
    assert "ScaleToUnit() with 3 channels" in refusal("test", *args, *PERCENTILES)
    assert "train both on the same" in refusal("test", *args, detector, "runs/other")
    Path("runs/other/version_0/config.yaml").unlink()
    assert "config.yaml is not a readable config of a run" in refusal("test", *args, detector, "runs/other")
