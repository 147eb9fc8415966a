"""COCO's mean average precision, from boxes and from label images, against analysis and torchmetrics' own masks."""

import numpy as np
import pytest
import torch
from torchmetrics.detection import MeanAveragePrecision

from karyon.detection.detections import Detections
from karyon.instances import Instances
from karyon.labels import relabel
from karyon.metrics.coco import BoxMeanAveragePrecision, MaskMeanAveragePrecision


def grid(count: int) -> np.ndarray:
    """A label image of squares of 4 x 4 px, 20 in a row."""
    return np.kron(np.arange(1, count + 1).reshape(-1, 20), np.pad(np.ones((4, 4), int), (0, 4)))


def boxed(instances: Instances) -> Detections:
    return Detections(torch.from_numpy(instances.boxes).float(), torch.from_numpy(instances.scores))


def boxes_of(truth: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(Instances.from_labels(truth).boxes)


def scored(truth: np.ndarray, found: np.ndarray) -> tuple[dict[str, float], Instances]:
    instances = Instances.from_labels(found, np.linspace(0.9, 0.1, found.max()))
    boxes, masks = BoxMeanAveragePrecision(), MaskMeanAveragePrecision()
    boxes.update(boxed(instances), boxes_of(truth))
    masks.update(instances, truth)
    return {key: float(value) for key, value in (boxes.compute() | masks.compute()).items()}, instances


def test_many_perfect_objects_score_one() -> None:
    scores, _ = scored(grid(300), grid(300))
    assert set(scores) == {f"{image_type}_{key}" for image_type in ("box", "mask") for key in ("map", "map50", "map75")}
    assert all(score == pytest.approx(1) for score in scores.values())


def test_half_of_the_objects_reach_half_of_the_recalls() -> None:
    found = grid(300)
    found[found > 150] = 0
    # Recalls 0, .01 ... .5 of 101 are reached, each at full precision.
    assert scored(grid(300), found)[0] == pytest.approx(dict.fromkeys(scored(grid(20), grid(20))[0], 51 / 101))


def test_masks_score_as_torchmetrics_masks_of_whole_images_do() -> None:
    rng = np.random.default_rng(0)
    truth = relabel(np.kron(rng.integers(0, 30, (8, 12)), np.ones((5, 5), int)))
    found = relabel(np.where(rng.random(truth.shape) < 0.2, 0, np.roll(truth, 1, axis=1)))
    scores, instances = scored(truth, found)
    oracle = MeanAveragePrecision(iou_type="segm", max_detection_thresholds=[1, 10, 100])
    masks = [torch.from_numpy(image == np.arange(1, image.max() + 1)[:, None, None]) for image in (found, truth)]
    pred, true = ({"masks": stack, "labels": torch.zeros(len(stack), dtype=torch.int64)} for stack in masks)
    oracle.update([{**pred, "scores": torch.from_numpy(instances.scores)}], [true])
    expected = oracle.compute()
    assert 0.05 < scores["mask_map"] < 0.95
    for ours, theirs in (("mask_map", "map"), ("mask_map50", "map_50"), ("mask_map75", "map_75")):
        assert scores[ours] == pytest.approx(float(expected[theirs]), abs=1e-6)


def test_images_without_objects_count_what_is_found_there() -> None:
    empty = np.zeros((8, 160), int)
    # COCO's own word for nothing to find.
    assert set(scored(empty, empty)[0].values()) == set(scored(empty, grid(20))[0].values()) == {-1}
    assert set(scored(grid(20), empty)[0].values()) == {0}
    boxes, masks = BoxMeanAveragePrecision(), MaskMeanAveragePrecision()
    found = Instances.from_labels(grid(20))
    for truth in (empty, grid(20)):
        boxes.update(boxed(found), boxes_of(truth))
        masks.update(found, truth)
    # Equal scores: the twenty false ones come first, so that precision ends at one half.
    assert boxes.compute()["box_map"] == pytest.approx(0.5, abs=0.01)
    assert masks.compute()["mask_map"] == pytest.approx(0.5, abs=0.01)
