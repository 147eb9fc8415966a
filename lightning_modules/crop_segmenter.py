"""The second of two stages: the mask of one nucleus in a crop around it."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from lightning_modules.instances import Instances
from lightning_modules.metrics import CropIoU
from lightning_modules.representations.foreground import Foreground
from lightning_modules.segmenter import DenseSegmenter


class CropSegmenter(DenseSegmenter):
    """A dense network of one output, trained on `datamodules.crops.CropDataModule`.

    Beside the metrics of every model, by which a crop is an image, it logs the mean IoU of the crops, ``crop_iou``.

    Args:
        network: crops (B, C, h, w) to logits (B, 1, h, w).
        loss: compares logits and targets, both (B, 1, h, w); see `lightning_modules.losses`.
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

    def probability(self, crops: Tensor) -> Tensor:
        """The probability, float32 (B, h, w), that a pixel of a crop (B, C, h, w) belongs to its nucleus."""
        return self.representation.maps(self(crops))[:, 0]


@dataclass
class OneObject:
    """All pixels of at least a probability of one half are one object; its score is their mean probability."""

    knobs: ClassVar[dict[str, tuple[float, ...]]] = {}

    def __call__(self, maps: Tensor) -> Instances:
        probability = self.probability(maps)
        mask = probability >= 0.5
        scores: Any = probability[mask].mean().reshape(1) if mask.any() else torch.zeros(0)
        return Instances.from_labels(mask.long(), scores)

    def probability(self, maps: Tensor) -> Tensor:
        return maps[0].cpu()
