"""Two checkpoints become one bundle, which finds what the module that is made of them finds."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml
from bundles import DETECTOR, MASKS, SEGMENTER, stage_weights
from small_runs import Run

from datamodules.drawing import draw_nuclei
from karyon import load_model
from karyon.batch import Sample, collate
from karyon.bundle import read_card
from karyon.detection.postprocessing import MaskPostprocessing
from karyon.preprocessing import PercentileNormalize, Preprocessing, to_planes
from lightning_modules.two_stage import TwoStage

TUNED = {**MASKS["init_args"], "score_threshold": 0.01, "nms_threshold": 0.4}
FOLDER = Path("runs/two-stage")


@pytest.fixture
def checkpoints(run: Run) -> list[Path]:
    """Runs of both stages in the current folder, a config that names them, and what tune and test leave."""
    normalization = {"class_path": "karyon.preprocessing.PercentileNormalize", "init_args": {}}
    images = {"class_path": "datamodules.synthetic.SyntheticDataModule"}
    images["init_args"] = {"channels": 3, "normalization": normalization}
    crops = {"class_path": "datamodules.crops.CropDataModule"}
    crops["init_args"] = {"crop_size": 16, "margin": 0.25, "images": images}
    loss = {"loss": {"class_path": "karyon.losses.BinaryCrossEntropy"}}
    stages = {
        "detector": ("detector.Detector", {"network": DETECTOR, "postprocessing": MASKS}, images),
        "segmenter": ("crop_segmenter.CropSegmenter", {"network": SEGMENTER, **loss}, crops),
    }
    paths = []
    for stage, (name, init_args, data) in stages.items():
        paths.append(Path(f"runs/{stage}/version_0/checkpoints/best.ckpt"))
        paths[-1].parent.mkdir(parents=True)
        state = {f"network.{key}": value for key, value in stage_weights()[stage].items()}
        torch.save({"state_dict": state}, paths[-1])
        model = {"class_path": f"lightning_modules.{name}", "init_args": init_args}
        (paths[-1].parents[1] / "config.yaml").write_text(yaml.safe_dump({"model": model, "data": data}))
        (paths[-1].parents[1] / "record.json").write_text(json.dumps({"fit": {"seed": len(stage)}}))
    named = {f"{stage}_checkpoint": f"runs/{stage}" for stage in stages}
    model = {"class_path": "TwoStage", "init_args": {**named, "postprocessing": MASKS["class_path"]}}
    Path("two.yaml").write_text(yaml.safe_dump({"name": "two-stage", "model": model, "data": images}))
    tuned = {"model": {"init_args": {"postprocessing": {**MASKS, "init_args": TUNED}}}}
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    (FOLDER / "test").mkdir(parents=True)
    content = {"config": tuned, "checkpoint_sha256": digest, "parameters": {"score_threshold": 0.01}}
    (FOLDER / "parameters.json").write_text(json.dumps(content))
    record = {"stages": {stage: {"checkpoint": str(path)} for stage, path in zip(stages, paths, strict=True)}}
    record["test"] = {"checkpoint": "None", "metrics": {"test/dsb_score": 0.25}}
    (FOLDER / "test" / "record.json").write_text(json.dumps(record))
    return paths


def test_the_bundle_of_two_checkpoints_finds_what_their_module_finds(run: Run, checkpoints: list[Path]) -> None:
    assert run("export", "two.yaml", "--diameter", 20) == 0
    card = read_card(FOLDER / "bundle")
    assert card.name == "two-stage" and card.object_diameter == 20 and card.onnx is None
    assert card.metrics == {"test": {"test/dsb_score": 0.25}}
    assert card.training == {"detector": {"seed": 8}, "segmenter": {"seed": 9}}
    assert card.model["postprocessing"]["init_args"] == TUNED

    module = TwoStage(*checkpoints, postprocessing=MaskPostprocessing(**TUNED)).eval()
    preprocessing = Preprocessing(3, PercentileNormalize())
    model = load_model(FOLDER / "bundle", device="cpu")
    Path("images").mkdir()
    expected = {}
    for k, size in enumerate([(64, 64), (96, 70), (130, 200)]):
        pixels, _ = draw_nuclei(np.random.default_rng(k), size, "fluorescence")
        tifffile.imwrite(f"images/{k}.tif", pixels)
        image = torch.from_numpy(np.array(to_planes(preprocessing(str(k), pixels))))
        (prediction,) = module.predict_step(collate([Sample(str(k), image, size)]))
        expected[k] = prediction.instances
        found = model.segment(pixels, diameter=None)
        assert len(found) > 3 and (found.labels == expected[k].labels).all()
        np.testing.assert_allclose(found.scores, expected[k].scores, atol=1e-6)
    assert run("segment", "images", "--model", FOLDER / "bundle", "--device", "cpu", "--diameter", "none") == 0
    for k, instances in expected.items():
        assert (tifffile.imread(next(Path().rglob(f"labels/{k}*.tif"))) == instances.labels).all()


def test_what_cannot_be_one_bundle_is_one_sentence(
    run: Run, checkpoints: list[Path], refusal: Callable[..., str]
) -> None:
    config = yaml.safe_load(Path("two.yaml").read_text())

    def refused(**changes: object) -> str:
        init_args = {**config["model"]["init_args"], **changes}
        init_args = {key: value for key, value in init_args.items() if value is not None}
        Path("other.yaml").write_text(yaml.safe_dump({**config, "model": {**config["model"], "init_args": init_args}}))
        return refusal("export", "other.yaml")

    assert "holds a Detector: name one of a CropSegmenter" in refused(segmenter_checkpoint="runs/detector")
    assert "There is no checkpoint in runs/no: train that stage first" in refused(detector_checkpoint="runs/no")
    assert "names no detector_checkpoint, segmenter_checkpoint and postproc" in refused(segmenter_checkpoint=None)
    assert "which is not one of the classes" in refused(postprocessing={"class_path": "mine.Postprocessing"})
    assert "is of a CropSegmenter, which cannot be a bundle" in refusal("export", checkpoints[1])
    assert "names no detector_checkpoint" in refusal("export", "runs/detector/version_0/config.yaml")
    assert "no.yaml is not a readable config" in refusal("export", "no.yaml")
    own = checkpoints[1].parents[1] / "config.yaml"
    own.write_text(own.read_text().replace("crop_size: 16", "crop_size: 4096"))
    assert "expected 1 to 512 px" in refused()
