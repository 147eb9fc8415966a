"""Trains torchvision's detectors to find nuclei, and with Mask R-CNN to outline them."""

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from karyon.batch import Batch, whole_annotation
from karyon.detection.postprocessing import DetectionPostprocessing
from karyon.detection.predictor import DetectionPredictor, NetworkFinder
from karyon.detection.targets import detection_targets
from lightning_modules.detection import DetectionModule


class Detector(DetectionModule):
    """Any detector of torchvision's kind.

    In evaluation these networks give no loss: monitor a metric.

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
        self.add_coco_metrics(self.finder.has_masks)

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
