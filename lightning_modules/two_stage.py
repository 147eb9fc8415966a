"""Detect, then segment: a trained detector and a trained crop segmenter as one model, which trains nothing itself."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchvision.ops import roi_align

from karyon.batch import Batch
from karyon.detection.detections import Detections
from karyon.detection.postprocessing import DetectionPostprocessing
from karyon.errors import DataError
from karyon.instances import Prediction
from lightning_modules.base import BaseModule
from lightning_modules.crop_segmenter import CropSegmenter
from lightning_modules.detector import Detector
from lightning_modules.trained_runs import load_trained


class TwoStage(BaseModule):
    """Finds boxes, outlines the nucleus in a crop around each, and pastes the masks back at full resolution.

    Networks, size and margin of the crops are those of the two runs: they are read from the ``config.yaml`` that lies
    beside each checkpoint, so that nothing has to be said twice, nor can be said wrongly.

    Args:
        detector_checkpoint: of a `lightning_modules.detector.Detector`. On the command line a run's folder such as
            ``runs/r1-detector`` stands for the best checkpoint of its newest version.
        segmenter_checkpoint: of a `lightning_modules.crop_segmenter.CropSegmenter`, likewise.
        postprocessing: makes a label image of boxes and masks; holds every parameter of inference.
        crops_per_pass: how many crops the segmenter is given at once, whatever the number of nuclei.

    Raises:
        DataError: a checkpoint is missing, damaged or of another model, or the two were trained on images that were
            prepared in different ways.
    """

    # Read by the command line, which has no checkpoint of the whole to look for.
    checkpoint_arguments: ClassVar[tuple[str, ...]] = ("detector_checkpoint", "segmenter_checkpoint")

    def __init__(
        self,
        detector_checkpoint: Path,
        segmenter_checkpoint: Path,
        postprocessing: DetectionPostprocessing,
        crops_per_pass: int = 256,
    ) -> None:
        super().__init__()
        detector, images = load_trained(Path(detector_checkpoint))
        segmenter, crops = load_trained(Path(segmenter_checkpoint))
        for checkpoint, module, expected in (
            (detector_checkpoint, detector, Detector),
            (segmenter_checkpoint, segmenter, CropSegmenter),
        ):
            if not isinstance(module, expected):
                raise DataError(f"{checkpoint} holds a {type(module).__name__}: name one of a {expected.__name__}.")
        assert isinstance(detector, Detector) and isinstance(segmenter, CropSegmenter)
        # For the record of what is measured.
        self.checkpoints = {"detector": Path(detector_checkpoint), "segmenter": Path(segmenter_checkpoint)}
        self.detector = detector
        self.segmenter = segmenter
        self.postprocessing = postprocessing
        self.crops_per_pass = crops_per_pass
        try:
            self.crop_size: int = crops["init_args"]["crop_size"]
            self.margin: float = crops["init_args"]["margin"]
            others = _preparation(crops["init_args"]["images"])
        except KeyError:
            raise DataError(
                f"{segmenter_checkpoint} was trained on {crops['class_path']}: train it on "
                "datamodules.crops.CropDataModule, which says how crops are cut."
            ) from None
        self.preparation = _preparation(images)
        if self.preparation != others:
            raise DataError(
                f"{detector_checkpoint} was trained on images prepared by {_shown(self.preparation)}, "
                f"{segmenter_checkpoint} by {_shown(others)}: train both on the same."
            )

    def setup(self, stage: str) -> None:
        """Compares the images that are coming with those that both stages were trained on.

        Raises:
            DataError: they are prepared in another way.
        """
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if data is not None and (coming := _prepared_by(data.preprocessing)) != self.preparation:
            raise DataError(
                f"The data module prepares images by {_shown(coming)}, but both stages were trained on images prepared "
                f"by {_shown(self.preparation)}: set its channels and normalization to that."
            )

    def predict_step(self, batch: Batch) -> list[Prediction]:
        seen = (batch.image.shape[-2], batch.image.shape[-1])
        predictions = []
        for number, (name, size) in enumerate(zip(batch.names, batch.sizes, strict=True)):
            found = self.find_masks(batch, number, self.find_boxes(batch, number)).cpu().scaled(seen, size)
            predictions.append(Prediction(name, size, None, self.postprocessing(found, size)))
        return predictions

    def find_boxes(self, batch: Batch, number: int) -> Detections:
        """The first stage: boxes in one image of a batch."""
        (found,) = self.detector.finder([batch.image[number]])
        return Detections(found.boxes, found.scores)

    def find_masks(self, batch: Batch, number: int, found: Detections) -> Detections:
        """The second stage: adds the masks, in frames that reach beyond the boxes by the margin."""
        framed = Detections(found.boxes, found.scores, margin=self.margin)
        masks = [
            self.segmenter.probability(cut_crops(batch.image[number], frames, self.crop_size))
            for frames in framed.frames.split(self.crops_per_pass)
            if len(frames)
        ]
        none = found.boxes.new_zeros(0, self.crop_size, self.crop_size)
        return Detections(found.boxes, found.scores, torch.cat(masks) if masks else none, self.margin)


def cut_crops(image: Tensor, frames: Tensor, crop_size: int) -> Tensor:
    """Cuts windows out of an image and brings them to one size, as `datamodules.crops` does to train.

    Windows that grow are interpolated linearly, those that shrink are averaged; beyond the image there are zeros.

    Args:
        image: float (C, H, W).
        frames: float (N, 4), x0, y0, x1, y1 in px.
        crop_size: height and width of the crops, px.

    Returns:
        float (N, C, ``crop_size``, ``crop_size``).
    """
    return roi_align(image[None], [frames], crop_size, aligned=True)


Prepared = tuple[int, str, dict[str, Any]]
"""Channels, and class and arguments of the normalisation."""


def _preparation(data: dict[str, Any]) -> Prepared:
    """How a data module of a config prepares its images."""
    normalization = data["init_args"]["normalization"] or {"class_path": "karyon.preprocessing.ScaleToUnit"}
    if isinstance(normalization, str):
        normalization = {"class_path": normalization}
    return data["init_args"]["channels"], normalization["class_path"], normalization.get("init_args", {})


def _prepared_by(preparation: Any) -> Prepared:
    """How a data module prepares its images, in the same terms."""
    normalization = preparation.normalization
    named = normalization if hasattr(normalization, "__qualname__") else type(normalization)
    return preparation.channels, f"{named.__module__}.{named.__qualname__}", dict(vars(normalization))


def _shown(preparation: Prepared) -> str:
    channels, name, arguments = preparation
    shown = ", ".join(f"{key}={value}" for key, value in arguments.items())
    return f"{name.rpartition('.')[2]}({shown}) with {channels} channels"
