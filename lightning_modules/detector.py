"""Trains torchvision's detectors to find nuclei, and with Mask R-CNN to outline them."""

from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol

import lightning
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from datamodules.sample import Batch, annotation
from lightning_modules.detections import Detections
from lightning_modules.instances import Instances, Prediction
from lightning_modules.metrics import log_and_reset, score, segmentation_metrics
from lightning_modules.metrics.coco import BoxMeanAveragePrecision, MaskMeanAveragePrecision
from lightning_modules.pasting import paste_masks


class DetectionDecoder(Protocol):
    """Turns the detections of one image into a label image; see `lightning_modules.detection_decoders`."""

    knobs: ClassVar[dict[str, tuple[float, ...]]]

    def __call__(self, detections: Detections, size: tuple[int, int]) -> Instances:
        """Lays out the detections of an image of height and width ``size``, px."""
        ...


class Detector(lightning.LightningModule):
    """Any detector of torchvision's kind.

    Beside the metrics of label images it logs COCO's: ``box_map``, and ``mask_map`` of a network with masks. In
    evaluation these networks give no loss: monitor a metric.

    Args:
        network: one of `lightning_modules.networks.rcnn` or `lightning_modules.networks.single_level_rcnn`, which
            leave size and normalisation of the image to the data module.
        decoder: makes label images of detections; holds every knob of inference.
        optimizer: makes the optimizer of the parameters.
        scheduler: makes the learning-rate scheduler of the optimizer, stepped each epoch.
        channels_last: keeps weights channels-last, faster with bf16 on recent CPUs and on GPUs.
    """

    def __init__(
        self,
        network: GeneralizedRCNN,
        decoder: DetectionDecoder,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        scheduler: LRSchedulerCallable | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network
        self.decoder = decoder
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.val_metrics, self.val_coco = segmentation_metrics("val/"), self._coco_metrics("val/")
        self.test_metrics, self.test_coco = segmentation_metrics("test/"), self._coco_metrics("test/")

    @property
    def has_masks(self) -> bool:
        """Whether the network finds masks too."""
        return bool(self.network.roi_heads.has_mask())

    def detect(self, images: Iterable[Tensor]) -> list[Detections]:
        """Finds the objects of images, in evaluation mode.

        Args:
            images: float (C, H, W) each, prepared as for training; sizes may differ.

        Returns:
            of each image all that the network thinks possible, down to a score of .05, the surest first.
        """
        found = self.network(list(images))
        masks = [single["masks"][:, 0].float() if self.has_masks else None for single in found]
        return [Detections(single["boxes"], single["scores"], m) for single, m in zip(found, masks, strict=True)]

    def training_step(self, batch: Batch) -> Tensor:
        targets = [detection_targets(single, self.has_masks) for single in annotation(batch)]
        losses: dict[str, Tensor] = self.network(list(batch.image), targets)
        loss = torch.stack(list(losses.values())).sum()
        parts = {f"train/{name}": value.detach() for name, value in losses.items()}
        self.log("train/loss", loss, prog_bar=True, on_step=True, on_epoch=True, batch_size=len(batch), sync_dist=True)
        self.log_dict(parts, on_step=False, on_epoch=True, batch_size=len(batch), sync_dist=True)
        return loss

    # Lightning hands whatever these steps return to the callbacks, though its annotations say otherwise.
    def validation_step(self, batch: Batch) -> list[Prediction]:  # type: ignore[override]
        return self._evaluate(batch, self.val_metrics, self.val_coco)

    def test_step(self, batch: Batch) -> list[Prediction]:  # type: ignore[override]
        return self._evaluate(batch, self.test_metrics, self.test_coco)

    def predict_step(self, batch: Batch) -> list[Prediction]:
        return self._decode(batch, self._detect_originals(batch))

    def _detect_originals(self, batch: Batch) -> list[Detections]:
        """What is found in each image, in px of the original."""
        seen = (batch.image.shape[-2], batch.image.shape[-1])
        found = zip(self.detect(batch.image), batch.sizes, strict=True)
        return [detections.cpu().scaled(seen, size) for detections, size in found]

    def _decode(self, batch: Batch, found: Sequence[Detections]) -> list[Prediction]:
        images = zip(batch.names, batch.sizes, found, strict=True)
        return [Prediction(name, size, None, self.decoder(single, size)) for name, size, single in images]

    def _evaluate(self, batch: Batch, metrics: MetricCollection, coco: MetricCollection) -> list[Prediction]:
        found = self._detect_originals(batch)
        predictions = self._decode(batch, found)
        score(metrics, batch, predictions)
        for detections, truth, name in zip(found, batch.truths, batch.names, strict=True):
            assert truth is not None, "outside training a batch carries the truths"
            coco["boxes"].update(detections, Instances.from_labels(truth).boxes, name)
            if detections.masks is not None:
                size = (truth.shape[0], truth.shape[1])
                pasted = paste_masks(detections.boxes, detections.scores, detections.masks, size, 0.5, min_area=1)
                coco["masks"].update(pasted, truth, name)
        return predictions

    def _coco_metrics(self, prefix: str) -> MetricCollection:
        metrics: dict[str, Metric | MetricCollection] = {"boxes": BoxMeanAveragePrecision()}
        if self.has_masks:
            metrics["masks"] = MaskMeanAveragePrecision()
        return MetricCollection(metrics, prefix=prefix, compute_groups=False)

    def on_validation_epoch_end(self) -> None:
        log_and_reset(self, self.val_metrics, self.val_coco)

    def on_test_epoch_end(self) -> None:
        log_and_reset(self, self.test_metrics, self.test_coco)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.optimizer(self.parameters())
        if self.scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.scheduler(optimizer)}


def detection_targets(labels: Tensor, masks: bool) -> dict[str, Tensor]:
    """What torchvision's detectors learn of a label image.

    Args:
        labels: integers (H, W), 1..N without gaps.
        masks: whether they learn masks too.

    Returns:
        ``boxes``, float32 (N, 4), x0, y0, x1, y1 in px, half-open, so that one pixel has an area; ``labels``, int64
        (N,), all 1; with masks ``masks``, uint8 (N, H, W).

    >>> detection_targets(torch.tensor([[0, 1, 1], [0, 0, 1]]), masks=False)["boxes"]
    tensor([[1., 0., 3., 2.]])
    """
    boxes = Instances.from_labels(labels).boxes.to(labels.device, torch.float32)
    ids = torch.arange(1, len(boxes) + 1, device=labels.device)
    targets = {"boxes": boxes, "labels": torch.ones_like(ids)}
    if masks:
        targets["masks"] = (labels == ids[:, None, None]).byte()
    return targets
