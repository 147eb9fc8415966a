"""Metrics of label images, as torchmetrics, and the matching of objects beneath them."""

from collections.abc import Sequence

from lightning import LightningModule
from torch import Tensor
from torchmetrics import MetricCollection

from datamodules.sample import Batch
from lightning_modules.instances import Prediction
from lightning_modules.metrics.instance import (
    AggregatedJaccard,
    CountError,
    DSBScore,
    PanopticQuality,
    PooledAveragePrecision,
    image_score,
)
from lightning_modules.metrics.matching import THRESHOLDS, Matching, match_instances
from lightning_modules.metrics.membrane import MembraneScores
from lightning_modules.metrics.per_image import MeanLoss, PerImageMetric
from lightning_modules.metrics.pixel import CropIoU, Dice, ForegroundIoU, MeanIoU, PixelAccuracy

__all__ = [
    "THRESHOLDS",
    "AggregatedJaccard",
    "CountError",
    "CropIoU",
    "DSBScore",
    "Dice",
    "ForegroundIoU",
    "Matching",
    "MeanIoU",
    "MeanLoss",
    "MembraneScores",
    "PanopticQuality",
    "PerImageMetric",
    "PixelAccuracy",
    "PooledAveragePrecision",
    "image_score",
    "log_and_reset",
    "match_instances",
    "score",
    "segmentation_metrics",
]


def segmentation_metrics(prefix: str, further: Sequence[PerImageMetric] = ()) -> MetricCollection:
    """Builds every metric of label images of this package; each image is matched once for all of them.

    Args:
        prefix: goes before every key, such as ``val/``.
        further: metrics to add; they are copied.
    """
    instance = [DSBScore(), PooledAveragePrecision(), PanopticQuality(), AggregatedJaccard(), CountError()]
    pixel = [PixelAccuracy(), ForegroundIoU(), MeanIoU(), Dice()]
    # torchmetrics finds these groups by itself too, but only after it has updated every metric with the first image.
    groups = [[type(metric).__name__ for metric in group] for group in (instance, pixel)]
    groups += [[type(metric).__name__] for metric in further]
    copies = [metric.clone() for metric in further]
    return MetricCollection([*instance, *pixel, *copies], prefix=prefix, compute_groups=groups)


def log_and_reset(module: LightningModule, *collections: MetricCollection) -> None:
    """Logs the metrics of an epoch that has ended, and makes them ready for the next."""
    for metrics in collections:
        # They have gathered the images of all processes by themselves.
        module.log_dict(metrics.compute())
        metrics.reset()


def score(
    metrics: MetricCollection, batch: Batch, predictions: Sequence[Prediction], losses: Sequence[Tensor | None] = ()
) -> None:
    """Adds the images of a batch to metrics of label images.

    Args:
        metrics: those of `segmentation_metrics`.
        batch: carries the true label images.
        predictions: of each image.
        losses: of each image, where `MeanLoss` is among the metrics.
    """
    images = zip(predictions, batch.truths, batch.kinds, losses or [None] * len(batch), strict=True)
    for prediction, truth, kind, loss in images:
        # By keywords, of which each metric is handed those it knows.
        metrics.update(
            pred=prediction.instances.labels,
            target=truth,
            cell_probability=prediction.probability,
            labels=truth,
            loss=loss,
            name=prediction.name,
            kind=kind,
        )
