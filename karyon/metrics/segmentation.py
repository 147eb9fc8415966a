"""Every metric of label images, together."""

from collections.abc import Sequence

from torchmetrics import MetricCollection

from karyon.metrics.instance import AggregatedJaccard, CountError, DSBScore, PanopticQuality, PooledAveragePrecision
from karyon.metrics.per_image import PerImageMetric
from karyon.metrics.pixel import Dice, ForegroundIoU, MeanIoU, PixelAccuracy


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
