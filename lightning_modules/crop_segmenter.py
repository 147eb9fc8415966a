"""The second of two stages: the mask of one nucleus in a crop around it."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from numpy.typing import NDArray
from torch import nn

from karyon.instances import Instances
from karyon.metrics.pixel import CropIoU
from karyon.representations.foreground.loss import Foreground
from karyon.representations.protocol import Maps, Postprocessing
from lightning_modules.segmenter import DenseSegmenter


class CropSegmenter(DenseSegmenter):
    """A dense network of one output, trained on `datamodules.crops.CropDataModule`.

    Beside the metrics of every model, by which a crop is an image, it logs the mean IoU of the crops, ``crop_iou``.

    Args:
        network: crops (B, C, h, w) to logits (B, 1, h, w).
        loss: compares logits and targets, both (B, 1, h, w); see `karyon.losses`.
        optimizer: makes the optimizer of the parameters.
        scheduler: makes the learning-rate scheduler of the optimizer, stepped each epoch.
        channels_last: keeps weights and images channels-last, faster with bf16 on recent CPUs and on GPUs.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__(
            network,
            Foreground(loss),
            OneObject(),
            optimizer,
            scheduler,
            metrics=[CropIoU()],
            channels_last=channels_last,
        )


@dataclass
class OneObject(Postprocessing):
    """All pixels of at least a probability of one half are one object; its score is their mean probability."""

    choices: ClassVar[dict[str, tuple[float, ...]]] = {}

    def __call__(self, maps: Maps) -> Instances:
        probability = self.probability(maps)
        mask = probability >= 0.5
        return Instances.from_labels(
            mask.astype(np.int32), probability[mask].mean(keepdims=True) if mask.any() else None
        )

    def probability(self, maps: Maps) -> NDArray[np.float32]:
        return maps[0]
