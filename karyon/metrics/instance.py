"""Metrics of instances: how many objects were found, and how well each was outlined."""

from typing import Any

import numpy as np

from karyon.labels import LabelImage
from karyon.metrics.matching import match_instances, ratio
from karyon.metrics.per_image import LabelImageMetric, Rows, row_type


class _InstanceMetric(LabelImageMetric):
    """Base of the instance metrics: all have the same rows, so that each image is matched once."""

    row = row_type(
        [
            ("n_true", "i8"),
            ("n_pred", "i8"),
            ("tp", "i8", 10),
            ("tp_inclusive", "i8", 10),
            ("iou_sum", "f8"),
            ("aji_intersection", "i8"),
            ("aji_union", "i8"),
        ]
    )

    def _count(self, true: LabelImage, pred: LabelImage) -> tuple[Any, ...]:
        match = match_instances(true, pred)
        aji = match.aji_intersection, match.aji_union
        return match.n_true, match.n_pred, match.tp, match.tp_inclusive, match.ious.sum(), *aji


class DSBScore(_InstanceMetric):
    """The Data Science Bowl's score: the mean over images of the mean over ten thresholds of TP / (TP + FP + FN).

    A prediction is a true positive where its IoU with a true object is greater than the threshold, .50, .55 ... .95.
    Key: ``dsb_score``, in [0, 1]. An image without objects scores 1 where none is predicted and 0 otherwise; an image
    with objects scores 0 where none is predicted.

    Source: https://www.kaggle.com/c/data-science-bowl-2018/overview/evaluation

    >>> metric = DSBScore()
    >>> metric.update(np.array([[1, 1, 0]]), np.array([[3, 3, 3]]), name="a", image_type="fluorescence")
    >>> metric.compute()  # an IoU of 2/3 passes .50, .55, .60 and .65
    {'dsb_score': tensor(0.4000), 'dsb_score/fluorescence': tensor(0.4000)}
    """

    higher_is_better = True

    def _scores(self, rows: Rows) -> dict[str, float]:
        objects = rows["n_true"] + rows["n_pred"]
        return {"dsb_score": ratio(rows["tp"], objects[:, None] - rows["tp"]).mean()}


class PooledAveragePrecision(_InstanceMetric):
    """StarDist's average precision: TP / (TP + FP + FN) from counts pooled over the images.

    Unlike the area under a precision-recall curve it needs no confidence. A prediction is a true positive where its
    IoU with a true object is at least the threshold. Keys, in [0, 1]: ``ap50``, ``ap55`` ... ``ap95`` at the thresholds
    .50, .55 ... .95, and ``ap``, their mean. An image without objects and without predictions changes nothing; where no
    image has either, all keys are 1 (StarDist's own code gives 0). Without true objects, or without predictions, they
    are 0.

    Source: Schmidt et al. 2018, https://arxiv.org/abs/1806.03535, section 3
    """

    higher_is_better = True

    def _scores(self, rows: Rows) -> dict[str, float]:
        tp = rows["tp_inclusive"].sum(axis=0)
        ap = ratio(tp, rows["n_true"].sum() + rows["n_pred"].sum() - tp)
        return {"ap": ap.mean(), **{f"ap{50 + 5 * k}": value for k, value in enumerate(ap)}}


class PanopticQuality(_InstanceMetric):
    """Panoptic quality of one class, pooled over the images: recognition times segmentation.

    A pair matches where its IoU is greater than 0.5. Keys, in [0, 1]: ``rq``, recognition quality,
    TP / (TP + FP/2 + FN/2); ``sq``, segmentation quality, the mean IoU of the matched pairs; ``pq``, their product.
    Without objects and predictions all three are 1. Where nothing matches, be it that objects or predictions are
    missing altogether, all three are 0.

    Source: Kirillov et al. 2019, https://arxiv.org/abs/1801.00868, section 4.1
    """

    higher_is_better = True

    def _scores(self, rows: Rows) -> dict[str, float]:
        tp = rows["tp"][:, 0].sum()
        objects = rows["n_true"].sum() + rows["n_pred"].sum()
        iou_sum = rows["iou_sum"].sum()
        rq = ratio(2 * tp, objects)
        return {"pq": ratio(2 * iou_sum, objects), "sq": iou_sum / tp if tp else rq, "rq": rq}


class AggregatedJaccard(_InstanceMetric):
    """Aggregated Jaccard index (AJI) of Kumar et al., the mean over images.

    For each true object take the prediction with which it has the greatest IoU, add their intersection to the numerator
    and their union to the denominator, and mark the prediction as used; a prediction may be used more than once. A true
    object that no prediction touches, and each prediction that was never used, adds its area to the denominator. (The
    variant AJI+ assigns each prediction once; this is not it.) Of predictions with equal IoU the one whose first pixel
    comes first, row by row, is taken, so that the index does not depend on the numbering.

    Key: ``aji``, in [0, 1]. An image without objects scores 1 where none is predicted and 0 otherwise; an image with
    objects scores 0 where none is predicted.

    Source: Kumar et al. 2017, https://doi.org/10.1109/TMI.2017.2677499, algorithm 1
    """

    higher_is_better = True

    def _scores(self, rows: Rows) -> dict[str, float]:
        return {"aji": ratio(rows["aji_intersection"], rows["aji_union"]).mean()}


class CountError(_InstanceMetric):
    """How far the number of predicted objects is from the true number.

    Keys: ``count_error``, the mean over images of |predicted - true|; ``count_bias``, the mean of predicted - true, so
    that a positive one means too many; ``objects_found`` and ``objects_true``, the totals over all images. Empty images
    need no rule.
    """

    higher_is_better = False

    def _scores(self, rows: Rows) -> dict[str, float]:
        difference = rows["n_pred"] - rows["n_true"]
        return {
            "count_error": np.abs(difference).mean(),
            "count_bias": difference.mean(),
            "objects_found": rows["n_pred"].sum(),
            "objects_true": rows["n_true"].sum(),
        }
