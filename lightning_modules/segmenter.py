"""Trains a dense network to predict a representation of label images."""

from collections.abc import Sequence

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from karyon.batch import Batch, annotation
from karyon.inference.blocks import Blocks
from karyon.inference.engines import TorchEngine
from karyon.inference.predictor import Predictor
from karyon.instances import Prediction
from karyon.metrics.per_image import MeanLoss, PerImageMetric
from karyon.representations.protocol import Postprocessing, Representation
from lightning_modules.base import BaseModule, predictions, score


class DenseSegmenter(BaseModule):
    """Any network that maps images to maps, any representation, any post-processing.

    Args:
        network: images (B, C, H, W) to (B, K, H, W), K as the representation wants.
        representation: derives targets from label images, and the loss.
        postprocessing: finds the objects in the predicted maps; holds every parameter of inference.
        optimizer: makes the optimizer of the parameters.
        scheduler: makes the learning-rate scheduler of the optimizer, stepped each epoch.
        rotations: whether maps are averaged over the eight rotations and flips of each image (test-time augmentation).
        rescale_to: median diameter, px, to which images of much smaller or larger objects are rescaled in a second
            pass; one pass by default.
        blocks: predicts large images block by block, at their original size, without a loss; all at once by default.
        metrics: further metrics beside those of `karyon.metrics.segmentation.segmentation_metrics` and the loss.
        channels_last: keeps weights and images channels-last, faster with bf16 on recent CPUs and on GPUs.
    """

    def __init__(
        self,
        network: nn.Module,
        representation: Representation,
        postprocessing: Postprocessing,
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        rotations: bool = False,
        rescale_to: float | None = None,
        blocks: Blocks | None = None,
        metrics: Sequence[PerImageMetric] | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__(optimizer, scheduler, [*([] if blocks else [MeanLoss()]), *(metrics or [])])
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self.memory_format)
        self.representation = representation
        self.postprocessing = postprocessing
        self.rotations = rotations
        self.blocks = blocks
        self.rescale_to = rescale_to
        if rescale_to:
            self.diameter = "auto"

    @property
    def predictor(self) -> Predictor:
        engine = TorchEngine(lambda image: self.representation.maps(self(image)), self.device)
        return Predictor(engine, self.postprocessing, self.rotations, self.blocks, self.rescale_to)

    def forward(self, image: Tensor) -> Tensor:
        """Maps images (B, C, H, W) to the network's output (B, K, H, W)."""
        output: Tensor = self.network(image.contiguous(memory_format=self.memory_format))
        return output

    def training_step(self, batch: Batch) -> Tensor:
        loss = self.representation.loss(self(batch.image), annotation(batch))
        self.log_loss(loss, batch)
        return loss

    def evaluate(self, batch: Batch, stage: str) -> list[Prediction]:
        if self.blocks is not None:
            return super().evaluate(batch, stage)
        output = self(batch.image)
        # One by one: the loss of a batch, such as Dice's, need not be the mean of its images' losses, and several
        # processes make up other batches than one.
        images = zip(output.split(1), annotation(batch).split(1), strict=True)
        losses = [self.representation.loss(single, labels) for single, labels in images]
        if self.rotations or self.rescale_to:
            found = self.predict_step(batch)
        else:
            # The loss has needed the one pass already.
            maps = self.representation.maps(output).float().cpu().numpy()
            predictor = self.predictor
            images_and_sizes = zip(maps, batch.sizes, strict=True)
            found = predictions(batch, [predictor.whole(predictor.finish(*given)) for given in images_and_sizes])
        score(self.metrics_of(stage), batch, found, losses)
        return found
