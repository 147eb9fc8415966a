"""Trains torchvision's detectors to find nuclei, and with Mask R-CNN to outline them."""

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from karyon.batch import Batch, whole_annotation
from karyon.detection.pasting import paste_masks
from karyon.detection.postprocessing import DetectionPostprocessing
from karyon.detection.predictor import DetectionPredictor, NetworkFinder
from karyon.detection.targets import detection_targets, true_boxes
from karyon.instances import Prediction
from karyon.metrics.coco import BoxMeanAveragePrecision, MaskMeanAveragePrecision
from lightning_modules.base import BaseModule, predictions, score


class Detector(BaseModule):
    """Any detector of torchvision's kind.

    Beside the metrics of label images it logs COCO's: ``box_map``, and ``mask_map`` of a network with masks. In
    evaluation these networks give no loss: monitor a metric.

    Args:
        network: one of `karyon.networks.rcnn` or `karyon.networks.single_level_rcnn`, which leave size and
            normalisation of the image to the data module.
        postprocessing: makes label images of detections; holds every parameter of inference.
        optimizer: makes the optimizer of the parameters.
        scheduler: makes the learning-rate scheduler of the optimizer, stepped each epoch.
        channels_last: keeps weights channels-last, faster with bf16 on recent CPUs and on GPUs.
    """

    def __init__(
        self,
        network: GeneralizedRCNN,
        postprocessing: DetectionPostprocessing,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        scheduler: LRSchedulerCallable | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__(optimizer, scheduler)
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network
        self.postprocessing = postprocessing
        self.finder = NetworkFinder(self.network)
        self.val_coco, self.test_coco = self._coco_metrics("val/"), self._coco_metrics("test/")

    @property
    def predictor(self) -> DetectionPredictor:
        return DetectionPredictor(self.finder, self.postprocessing, self.device)

    def training_step(self, batch: Batch) -> Tensor:
        targets = [detection_targets(single, self.finder.has_masks) for single in whole_annotation(batch)]
        losses: dict[str, Tensor] = self.network(list(batch.image), targets)
        loss = torch.stack(list(losses.values())).sum()
        parts = {f"train/{name}": value.detach() for name, value in losses.items()}
        self.log_loss(loss, batch)
        self.log_dict(parts, on_step=False, on_epoch=True, batch_size=len(batch), sync_dist=True)
        return loss

    def evaluate(self, batch: Batch, stage: str) -> list[Prediction]:
        whole_annotation(batch)
        found = self.predictor.detect(batch.image, batch.sizes)
        laid_out = [(None, self.postprocessing(*image)) for image in zip(found, batch.sizes, strict=True)]
        answers = predictions(batch, laid_out)
        score(self.metrics_of(stage), batch, answers)
        coco = self.val_coco if stage == "val" else self.test_coco
        for detections, truth, name in zip(found, batch.truths, batch.names, strict=True):
            assert truth is not None, "outside training a batch carries the truths"
            coco["boxes"].update(detections, true_boxes(truth), name)
            if detections.masks is not None:
                size = (truth.shape[0], truth.shape[1])
                pasted = paste_masks(detections.boxes, detections.scores, detections.masks, size, 0.5, min_area=1)
                coco["masks"].update(pasted, truth.numpy(), name)
        return answers

    def _coco_metrics(self, prefix: str) -> MetricCollection:
        metrics: dict[str, Metric | MetricCollection] = {"boxes": BoxMeanAveragePrecision()}
        if self.finder.has_masks:
            metrics["masks"] = MaskMeanAveragePrecision()
        return MetricCollection(metrics, prefix=prefix, compute_groups=False)

    def log_and_reset(self, stage: str) -> None:
        super().log_and_reset(stage)
        coco = self.val_coco if stage == "val" else self.test_coco
        self.log_dict(coco.compute())
        coco.reset()
