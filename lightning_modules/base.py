"""What all modules share: evaluation, prediction, metrics and the optimizer. Subclasses add the loss."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import lightning
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics import MetricCollection

from karyon.batch import Batch
from karyon.checkpoint import checkpoint_weights
from karyon.detection.predictor import DetectionPredictor
from karyon.errors import DataError
from karyon.inference.blocks import Found
from karyon.inference.predictor import Predictor
from karyon.inference.views import Diameter
from karyon.instances import Instances, Prediction
from karyon.labels import LabelImage
from karyon.metrics.matching import mostly_unknown
from karyon.metrics.per_image import PerImageMetric
from karyon.metrics.segmentation import segmentation_metrics
from lightning_modules.trained_runs import load_weights


class BaseModule(lightning.LightningModule):
    """Predicts by a predictor and scores what it finds; a subclass adds `training_step` and `predictor`.

    Args:
        optimizer: makes the optimizer of the parameters; None for models that train nothing.
        scheduler: makes the learning-rate scheduler of the optimizer, stepped each epoch.
        metrics: beside those of `karyon.metrics.segmentation.segmentation_metrics`.
    """

    diameter: Diameter = None

    def __init__(
        self,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        metrics: Sequence[PerImageMetric] = (),
    ) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.val_metrics = segmentation_metrics("val/", metrics)
        self.test_metrics = segmentation_metrics("test/", metrics)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path, **init_args: Any) -> Self:  # type: ignore[override]
        """Makes a module of its arguments and loads a checkpoint's weights.

        Lightning's own would build what the file names, and so run what a stranger has written into it.

        Args:
            checkpoint_path: of which tensors alone are read.
            init_args: of the class.

        Raises:
            DataError: arguments are missing or unknown; the checkpoint is damaged, or of another architecture.
        """
        path = Path(checkpoint_path)
        try:
            inspect.signature(cls).bind(**init_args)
        except TypeError as error:
            raise DataError(
                f"{path} does not hold the arguments of {cls.__name__} ({error}): give them by name, or take "
                "karyon.load_model, which reads the run's config."
            ) from None
        module = cls(**init_args)
        load_weights(module, checkpoint_weights(path), path)
        return module

    @property
    def predictor(self) -> Predictor | DetectionPredictor:
        """Finds the objects in images, by the module's weights as they are."""
        raise NotImplementedError

    # Lightning hands whatever these steps return to the callbacks, though its annotations say otherwise.
    def validation_step(self, batch: Batch) -> list[Prediction]:  # type: ignore[override]
        return self.evaluate(batch, "val")

    def test_step(self, batch: Batch) -> list[Prediction]:  # type: ignore[override]
        return self.evaluate(batch, "test")

    def predict_step(self, batch: Batch) -> list[Prediction]:
        images = batch.image.cpu().numpy()
        return predictions(batch, self.predictor.predict(images, batch.sizes, batch.names, self.diameter))

    def evaluate(self, batch: Batch, stage: str) -> list[Prediction]:
        """Predicts a batch and adds it to the metrics of ``val`` or ``test``."""
        found = self.predict_step(batch)
        score(self.metrics_of(stage), batch, found)
        return found

    def metrics_of(self, stage: str) -> MetricCollection:
        """The metrics of label images of ``val`` or ``test``."""
        return self.val_metrics if stage == "val" else self.test_metrics

    def log_loss(self, loss: Tensor, batch: Batch) -> None:
        """Logs the loss of a training step, and its mean over the epoch."""
        self.log("train/loss", loss, prog_bar=True, on_step=True, on_epoch=True, batch_size=len(batch), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        self.log_and_reset("val")

    def on_test_epoch_end(self) -> None:
        self.log_and_reset("test")

    def log_and_reset(self, stage: str) -> None:
        """Logs the metrics of an epoch that has ended, and makes them ready for the next."""
        # They have gathered the images of all processes by themselves.
        metrics = self.metrics_of(stage)
        self.log_dict(metrics.compute())
        metrics.reset()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        assert self.optimizer is not None, "a model that is trained has an optimizer"
        optimizer = self.optimizer(self.parameters())
        if self.scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.scheduler(optimizer)}


def predictions(batch: Batch, found: Sequence[Found]) -> list[Prediction]:
    """Names what was found in each image of a batch, without objects that lie mostly where nothing is annotated."""
    pixel_sizes = batch.pixel_sizes or [None] * len(batch)
    images = zip(batch.names, batch.sizes, found, batch.truths, pixel_sizes, strict=True)
    return [
        Prediction(
            *(name, size, probability, instances if truth is None else _judged(instances, truth.numpy())),
            pixel_size=pixel_size,
        )
        for name, size, (probability, instances), truth, pixel_size in images
    ]


def _judged(instances: Instances, truth: LabelImage) -> Instances:
    if truth.min() >= 0:
        return instances
    return instances.only(~mostly_unknown(truth, instances.labels)[1:])


def score(
    metrics: MetricCollection, batch: Batch, found: Sequence[Prediction], losses: Sequence[Tensor | None] = ()
) -> None:
    """Adds the images of a batch to metrics of label images.

    Args:
        metrics: those of `karyon.metrics.segmentation.segmentation_metrics`.
        batch: carries the true label images.
        found: the prediction of each image.
        losses: of each image, where `karyon.metrics.per_image.MeanLoss` is among the metrics.
    """
    images = zip(found, batch.truths, batch.image_types, losses or [None] * len(batch), strict=True)
    for prediction, truth, image_type, loss in images:
        # By keywords, of which each metric is handed those it knows.
        metrics.update(
            pred=prediction.instances.labels,
            target=truth,
            cell_probability=prediction.probability,
            labels=truth,
            loss=loss,
            name=prediction.name,
            image_type=image_type,
        )
