import numpy as np
import pytest
import torch
from hypothesis import given
from label_pairs import label_pairs, several
from torchmetrics import MetricCollection

from karyon.metrics.pixel import Dice, ForegroundIoU, MeanIoU, PixelAccuracy
from karyon.metrics.segmentation import segmentation_metrics

METRICS = [PixelAccuracy, ForegroundIoU, MeanIoU, Dice]
EMPTY = np.zeros((2, 3), dtype=np.int64)
FULL = np.full((2, 3), 7)
HALF = np.array([[1, 2, 0], [1, 0, 0]])


def score(metric, pairs):
    for true, pred in pairs:
        metric.update(pred, true)
    return {key: value.item() for key, value in metric.compute().items()}


def jaccard(a, b):
    return np.sum(a & b) / np.sum(a | b) if np.any(a | b) else 1.0


def dice(a, b):
    return 2 * np.sum(a & b) / (np.sum(a) + np.sum(b)) if np.any(a | b) else 1.0


@given(several(label_pairs()))
def test_scores_equal_the_formulas(pairs):
    images = [(true > 0, pred > 0) for true, pred in pairs]
    # Pooling over images is the same as scoring all their pixels as one long image.
    pooled = tuple(np.concatenate([image.ravel() for image in side]) for side in zip(*images, strict=True))
    expected = {
        "accuracy": np.mean(pooled[0] == pooled[1]),
        "accuracy_per_image": np.mean([np.mean(t == p) for t, p in images]),
        "iou": jaccard(*pooled),
        "iou_per_image": np.mean([jaccard(t, p) for t, p in images]),
        "miou": np.mean([(jaccard(t, p) + jaccard(~t, ~p)) / 2 for t, p in images]),
        "miou_pooled": (jaccard(*pooled) + jaccard(~pooled[0], ~pooled[1])) / 2,
        "dice": dice(*pooled),
        "dice_per_image": np.mean([dice(t, p) for t, p in images]),
    }
    assert score(MetricCollection([metric() for metric in METRICS]), pairs) == pytest.approx(expected)


@given(several(label_pairs()))
def test_symmetric_and_perfect_on_itself(pairs):
    for metric in METRICS:
        assert score(metric(), pairs) == score(metric(), [(pred, true) for true, pred in pairs])
        assert set(score(metric(), [(true, true) for true, _ in pairs]).values()) == {1.0}


@pytest.mark.parametrize(
    ("metric", "one_empty", "half_full"),
    [(PixelAccuracy, 0.0, 0.5), (ForegroundIoU, 0.0, 0.5), (MeanIoU, 0.0, 0.25), (Dice, 0.0, 2 / 3)],
)
def test_empty_and_full_images(metric, one_empty, half_full):
    assert set(score(metric(), [(EMPTY, EMPTY)]).values()) == {1.0}
    assert set(score(metric(), [(FULL, FULL)]).values()) == {1.0}
    assert set(score(metric(), [(EMPTY, FULL)]).values()) == {one_empty}
    assert set(score(metric(), [(FULL, EMPTY)]).values()) == {one_empty}
    assert list(score(metric(), [(FULL, HALF)]).values()) == pytest.approx([half_full] * 2)


def test_counts_stay_exact_where_float32_would_not():
    # 2 ** 24 + 1 is the first integer that float32 cannot hold: one wrong pixel among 2 ** 25 must not vanish.
    true = np.zeros((2**12, 2**12), dtype=np.uint8)
    pred = true.copy()
    pred[0, 0] = 1
    metric = PixelAccuracy()
    metric.update(true, true, name="a")
    metric.update(pred, true, name="b")
    rows = torch.cat(metric.rows).numpy().view(metric.row)
    assert (rows["tn"].sum(), rows["fp"].sum()) == (2**25 - 1, 1)


def test_a_collection_scores_each_image_once_and_reports_image_types():
    metrics = segmentation_metrics("val/")
    metrics.update(torch.from_numpy(HALF), torch.from_numpy(FULL), name="a", image_type="phase")
    metrics.update(FULL, FULL, name="b")
    metrics.update(FULL, FULL, name="b")
    result = metrics.compute()
    assert result["val/accuracy"].item() == result["val/iou_per_image"].item() == 0.75
    assert result["val/accuracy/phase"].item() == 0.5
    assert len(result) == 2 * (20 + 8)


def test_a_prediction_of_another_size_is_refused():
    with pytest.raises(ValueError, match="resize the prediction"):
        Dice().update(np.zeros((4, 6), int), np.zeros((4, 5), int))
