"""COCO's mean average precision, from boxes and from label images, against analysis and torchmetrics' own masks."""

import numpy as np
import pytest
import torch
from torchmetrics.detection import MeanAveragePrecision

from datamodules.sample import relabel
from lightning_modules.detections import Detections
from lightning_modules.instances import Instances
from lightning_modules.metrics.coco import BoxMeanAveragePrecision, MaskMeanAveragePrecision


def grid(count: int) -> torch.Tensor:
    """A label image of squares of 4 x 4 px, 20 in a row."""
    labels = torch.zeros(8 * (count // 20), 160, dtype=torch.int64)
    for k in range(count):
        row, column = 8 * (k // 20), 8 * (k % 20)
        labels[row : row + 4, column : column + 4] = k + 1
    return labels


def scored(truth: torch.Tensor, found: torch.Tensor) -> tuple[dict[str, float], Instances]:
    instances = Instances.from_labels(found, torch.linspace(0.9, 0.1, int(found.max())))
    boxes, masks = BoxMeanAveragePrecision(), MaskMeanAveragePrecision()
    boxes.update(Detections(instances.boxes.float(), instances.scores), Instances.from_labels(truth).boxes)
    masks.update(instances, truth)
    return {key: float(value) for key, value in (boxes.compute() | masks.compute()).items()}, instances


def test_many_perfect_objects_score_one() -> None:
    scores, _ = scored(grid(300), grid(300))
    assert set(scores) == {f"{kind}_{key}" for kind in ("box", "mask") for key in ("map", "map50", "map75")}
    assert all(score == pytest.approx(1) for score in scores.values())


def test_half_of_the_objects_reach_half_of_the_recalls() -> None:
    found = grid(300)
    found[found > 150] = 0
    # Recalls 0, .01 ... .5 of 101 are reached, each at full precision.
    assert scored(grid(300), found)[0] == pytest.approx(dict.fromkeys(scored(grid(20), grid(20))[0], 51 / 101))


def test_masks_score_as_torchmetrics_masks_of_whole_images_do() -> None:
    rng = np.random.default_rng(0)
    truth = torch.from_numpy(relabel(np.kron(rng.integers(0, 30, (8, 12)), np.ones((5, 5), int))))
    found = torch.from_numpy(relabel(np.where(rng.random(truth.shape) < 0.2, 0, np.roll(truth.numpy(), 1, axis=1))))
    scores, instances = scored(truth, found)
    oracle = MeanAveragePrecision(iou_type="segm", max_detection_thresholds=[1, 10, 100])
    ids = [torch.arange(1, int(image.max()) + 1)[:, None, None] for image in (found, truth)]
    oracle.update(
        [{"masks": found == ids[0], "scores": instances.scores, "labels": torch.zeros(len(ids[0]), dtype=torch.int64)}],
        [{"masks": truth == ids[1], "labels": torch.zeros(len(ids[1]), dtype=torch.int64)}],
    )
    expected = oracle.compute()
    assert 0.05 < scores["mask_map"] < 0.95
    for ours, theirs in (("mask_map", "map"), ("mask_map50", "map_50"), ("mask_map75", "map_75")):
        assert scores[ours] == pytest.approx(float(expected[theirs]), abs=1e-6)


def test_images_without_objects_count_what_is_found_there() -> None:
    empty = torch.zeros(8, 160, dtype=torch.int64)
    # COCO's own word for nothing to find.
    assert set(scored(empty, empty)[0].values()) == set(scored(empty, grid(20))[0].values()) == {-1}
    assert set(scored(grid(20), empty)[0].values()) == {0}
    boxes, masks = BoxMeanAveragePrecision(), MaskMeanAveragePrecision()
    true, false = Instances.from_labels(grid(20)), Instances.from_labels(grid(20))
    for truth, found in ((empty, false), (grid(20), true)):
        boxes.update(Detections(found.boxes.float(), found.scores), Instances.from_labels(truth).boxes)
        masks.update(found, truth)
    # Equal scores: the twenty false ones come first, so that precision ends at one half.
    assert boxes.compute()["box_map"] == pytest.approx(0.5, abs=0.01)
    assert masks.compute()["mask_map"] == pytest.approx(0.5, abs=0.01)
