"""Trains a dense network to predict a representation of label images."""

import lightning
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import MetricCollection

from datamodules.sample import Batch, DataError, annotation
from lightning_modules.blocks import Blockwise
from lightning_modules.inference import Inference, Once
from lightning_modules.instances import Prediction
from lightning_modules.metrics import MeanLoss, PerImageMetric, log_and_reset, score, segmentation_metrics
from lightning_modules.representations.protocol import Decoder, Representation


class DenseSegmenter(lightning.LightningModule):
    """Any network that maps images to maps, any representation, any decoder.

    Args:
        network: images (B, C, H, W) to (B, K, H, W), K as the representation wants.
        representation: derives targets from label images, and the loss.
        decoder: finds the objects in the predicted maps; holds every knob of inference.
        optimizer: makes the optimizer of the parameters.
        scheduler: makes the learning-rate scheduler of the optimizer, stepped each epoch.
        inference: applies the network in more than one pass, as test-time augmentation does; once by default.
        blocks: evaluates and predicts large images block by block, at their original size, without a loss; all at once
            by default.
        metrics: further metrics beside those of `lightning_modules.metrics.segmentation_metrics` and the loss.
        channels_last: keeps weights and images channels-last, faster with bf16 on recent CPUs and on GPUs.
    """

    def __init__(
        self,
        network: nn.Module,
        representation: Representation,
        decoder: Decoder,
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        inference: Inference | None = None,
        blocks: Blockwise | None = None,
        metrics: list[PerImageMetric] | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self.memory_format)
        self.representation = representation
        self.decoder = decoder
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.inference = inference or Once()
        self.blocks = blocks
        further = [*([] if blocks else [MeanLoss()]), *(metrics or [])]
        self.val_metrics = segmentation_metrics("val/", further)
        self.test_metrics = segmentation_metrics("test/", further)

    def forward(self, image: Tensor) -> Tensor:
        """Maps images (B, C, H, W) to the network's output (B, K, H, W)."""
        output: Tensor = self.network(image.contiguous(memory_format=self.memory_format))
        return output

    def training_step(self, batch: Batch) -> Tensor:
        loss = self.representation.loss(self(batch.image), annotation(batch))
        self.log("train/loss", loss, prog_bar=True, on_step=True, on_epoch=True, batch_size=len(batch), sync_dist=True)
        return loss

    # Lightning hands whatever these steps return to the callbacks, though its annotations say otherwise.
    def validation_step(self, batch: Batch) -> list[Prediction]:  # type: ignore[override]
        return self._evaluate(batch, self.val_metrics)

    def test_step(self, batch: Batch) -> list[Prediction]:  # type: ignore[override]
        return self._evaluate(batch, self.test_metrics)

    def predict_step(self, batch: Batch) -> list[Prediction]:
        if self.blocks is not None:
            return self._decode_blocks(batch, self.blocks)
        return self._decode(batch, self.maps(batch.image))

    def maps(self, image: Tensor) -> Tensor:
        """Maps (B, K, H, W) of images (B, C, H, W), for the decoder, in as many passes as `inference` takes."""
        return self.inference.apply(self, image)

    def maps_once(self, image: Tensor) -> Tensor:
        """Maps (B, K, H, W) of images (B, C, H, W) in one pass."""
        return self.representation.maps(self(image))

    def _decode_blocks(self, batch: Batch, blocks: Blockwise) -> list[Prediction]:
        predictions = []
        for name, size, image in zip(batch.names, batch.sizes, batch.image.split(1), strict=True):
            if image.shape[-2:] != size:
                raise DataError(
                    f"{name} was resized, and blocks keep the original size: leave out image_size or blocks."
                )
            predictions.append(Prediction(name, size, *blocks.decode(self.maps, image, self.decoder)))
        return predictions

    def _decode(self, batch: Batch, maps: Tensor) -> list[Prediction]:
        predictions = []
        for name, size, single in zip(batch.names, batch.sizes, maps, strict=True):
            resized = self.representation.resize(single, size)
            predictions.append(Prediction(name, size, self.decoder.probability(resized), self.decoder(resized)))
        return predictions

    def _evaluate(self, batch: Batch, metrics: MetricCollection) -> list[Prediction]:
        if self.blocks is not None:
            predictions = self._decode_blocks(batch, self.blocks)
            score(metrics, batch, predictions)
            return predictions
        output = self(batch.image)
        # One by one: the loss of a batch, such as Dice's, need not be the mean of its images' losses, and several
        # processes make up other batches than one.
        images = zip(output.split(1), annotation(batch).split(1), strict=True)
        losses = [self.representation.loss(single, labels) for single, labels in images]
        # The loss has needed one pass already.
        once = isinstance(self.inference, Once)
        predictions = self._decode(batch, self.representation.maps(output) if once else self.maps(batch.image))
        score(metrics, batch, predictions, losses)
        return predictions

    def on_validation_epoch_end(self) -> None:
        log_and_reset(self, self.val_metrics)

    def on_test_epoch_end(self) -> None:
        log_and_reset(self, self.test_metrics)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.optimizer(self.parameters())
        if self.scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.scheduler(optimizer)}
