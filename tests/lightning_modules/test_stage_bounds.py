from pathlib import Path

import numpy as np
import pytest
import torch
from echo_model import make_trainer
from known_stages import ellipses, sample, write_runs
from lightning import LightningModule

from datamodules.base import LabelImageDataModule
from karyon.batch import collate
from karyon.detection.detections import Detections
from karyon.detection.postprocessing import MaskPostprocessing
from karyon.errors import DataError
from karyon.layouts.protocol import Item
from lightning_modules.stage_bounds import BoundingTrainer, in_place_of_stages, true_detections, true_masks
from lightning_modules.two_stage import TwoStage


class Scene(LabelImageDataModule):
    """One image, a row of which shows two nuclei that touch and one that is dark in the middle."""

    def setup(self, stage: str) -> None:
        labels = ellipses(3, 4, 30)
        labels[10:20, 20:30], labels[10:20, 30:40] = labels[14, 14], labels[14, 44]
        pixels = (labels > 0).astype(np.uint8) * 255
        pixels[40:50, 10:14] = 0
        self.items["val"] = [Item("a", "", lambda: (pixels, labels))]


def test_a_better_stage_is_told_from_a_worse_one(tmp_path: Path) -> None:
    model = TwoStage(*write_runs(tmp_path, crop_size=32, margin=0.25), postprocessing=MaskPostprocessing())
    postprocessing = model.postprocessing
    bounding = make_trainer(image_type=BoundingTrainer)
    bounding.bound(model, Scene(num_workers=0))
    score = {sources: metrics["dsb_score"] for sources, metrics in bounding.bounds.items()}
    assert score["true", "true"] > score["true", "found"] > score["found", "found"]
    assert score["true", "true"] > score["found", "true"] > score["found", "found"]
    assert bounding.bounds["true", "true"]["ap50"] == 1
    assert bounding.bounds["found", "found"]["objects_found"] == 11
    assert model.postprocessing is postprocessing and "detect" not in vars(model)
    assert bounding.bounds["true", "true"]["box_map"] == pytest.approx(1)
    mask_map = [bounding.bounds[sources]["mask_map"] for sources in (("true", "true"), ("found", "found"))]
    assert pytest.approx(1) == mask_map[0] > mask_map[1] > 0


def test_true_boxes_are_never_doubles_of_each_other(tmp_path: Path) -> None:
    model = TwoStage(
        *write_runs(tmp_path, crop_size=32, margin=0.0), postprocessing=MaskPostprocessing(nms_threshold=0.2)
    )
    labels = np.zeros((20, 20), np.int64)
    labels[2:18, 2:18] = 1
    labels[2:18, 8:12] = 2
    batch = collate([sample("a", labels)])
    assert true_detections(batch, 0).boxes.tolist() == [[2, 2, 18, 18], [8, 2, 12, 18]]
    with in_place_of_stages(model, "true", "true"):
        (prediction,) = model.evaluate(batch, "val")
    assert np.array_equal(prediction.instances.labels > 0, labels > 0)
    assert len(prediction.instances) == 2


def test_each_box_takes_the_object_that_it_overlaps_most_and_only_its_pixels() -> None:
    labels = torch.zeros(12, 16, dtype=torch.int64)
    labels[2:10, 2:8] = 1
    labels[2:10, 8:12] = 2
    boxes = torch.tensor(
        [[0.0, 0.0, 10.0, 12.0], [7.0, 0.0, 13.0, 12.0], [13.0, 0.0, 15.0, 4.0], [-4.0, 0.0, 8.0, 12.0]]
    )
    found = true_masks(labels, Detections(boxes, torch.ones(4)), cells=12)
    assert found.masks is not None
    areas = found.masks.sum(dim=(1, 2))
    # Of 12 x 12 cells, the object covers 8 of 12 rows of the box and its share of the columns.
    assert areas[0] == pytest.approx(8 * 12 * 6 / 10, abs=8)
    assert areas[1:].tolist() == [8 * 8, 0, 8 * 6]
    assert found.masks[3, 2:10, 6:].all()


def test_other_models_have_no_stages() -> None:
    with pytest.raises(DataError, match="LightningModule has no two stages"):
        make_trainer(image_type=BoundingTrainer).bound(LightningModule())
