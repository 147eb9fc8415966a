"""Metrics of pixels: how well the foreground, the pixels of any object, agrees with the true one."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from karyon.labels import LabelImage
from karyon.metrics.matching import ratio
from karyon.metrics.per_image import LabelImageMetric, Rows, row_type


class _PixelMetric(LabelImageMetric):
    """Base of the pixel metrics: the confusion matrix of foreground (label > 0) and background, px."""

    row = row_type([("tp", "i8"), ("fp", "i8"), ("fn", "i8"), ("tn", "i8")])

    def _count(self, true: LabelImage, pred: LabelImage) -> tuple[Any, ...]:
        n_true, n_pred = np.count_nonzero(true), np.count_nonzero(pred)
        tp = np.count_nonzero((true > 0) & (pred > 0))
        return tp, n_pred - tp, n_true - tp, true.size - n_pred - n_true + tp


class PixelAccuracy(_PixelMetric):
    """Fraction of the pixels whose class, foreground or background, is right.

    Keys, in [0, 1]: ``accuracy``, of the pixels of all images together; ``accuracy_per_image``, the mean over images.
    Empty images need no rule: where neither image has an object every pixel is right.
    """

    higher_is_better = True

    def _scores(self, rows: Rows) -> dict[str, float]:
        right = rows["tp"] + rows["tn"]
        return _pooled_and_mean("accuracy", right, right + rows["fp"] + rows["fn"])


class ForegroundIoU(_PixelMetric):
    """Intersection over union of the foreground.

    Keys, in [0, 1]: ``iou``, from the pixels of all images together; ``iou_per_image``, the mean over images. Without
    foreground in truth and prediction it is 1, with foreground in one of them only it is 0.
    """

    higher_is_better = True

    def _scores(self, rows: Rows) -> dict[str, float]:
        return _pooled_and_mean("iou", rows["tp"], rows["tp"] + rows["fp"] + rows["fn"])


class CropIoU(_PixelMetric):
    """Mean IoU of crops that hold one object each.

    Key: ``crop_iou``, in [0, 1]: the mean over crops of the IoU of predicted and true mask; 1 where both are empty.
    """

    higher_is_better = True

    def _scores(self, rows: Rows) -> dict[str, float]:
        return {"crop_iou": ratio(rows["tp"], rows["tp"] + rows["fp"] + rows["fn"]).mean()}


class MeanIoU(_PixelMetric):
    """Mean of the foreground's and the background's intersection over union.

    Keys, in [0, 1]: ``miou``, the mean over images of each image's value; ``miou_pooled``, from the pixels of all
    images together. A class that is in neither truth nor prediction has an IoU of 1, one that is in one of them only 0.
    """

    higher_is_better = True

    def _scores(self, rows: Rows) -> dict[str, float]:
        wrong = rows["fp"] + rows["fn"]
        foreground = _pooled_and_mean("iou", rows["tp"], rows["tp"] + wrong)
        background = _pooled_and_mean("iou", rows["tn"], rows["tn"] + wrong)
        return {
            "miou": (foreground["iou_per_image"] + background["iou_per_image"]) / 2,
            "miou_pooled": (foreground["iou"] + background["iou"]) / 2,
        }


class Dice(_PixelMetric):
    """Dice coefficient of the foreground: twice the intersection over the sum of both areas.

    Keys, in [0, 1]: ``dice``, from the pixels of all images together; ``dice_per_image``, the mean over images. Without
    foreground in truth and prediction it is 1, with foreground in one of them only it is 0.
    """

    higher_is_better = True

    def _scores(self, rows: Rows) -> dict[str, float]:
        return _pooled_and_mean("dice", 2 * rows["tp"], 2 * rows["tp"] + rows["fp"] + rows["fn"])


def _pooled_and_mean(key: str, part: NDArray[np.int64], whole: NDArray[np.int64]) -> dict[str, float]:
    """The ratio of the sums over images, and the mean over images of the ratios."""
    return {key: ratio(part.sum(), whole.sum()), f"{key}_per_image": ratio(part, whole).mean()}
