"""Which of two stages loses the score: the chain, with the truth in place of one stage or of both."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningDataModule, LightningModule
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_iou

from karyon.batch import Batch, annotation
from karyon.detection.detections import Detections
from karyon.detection.predictor import Choice
from karyon.detection.targets import true_boxes
from karyon.detection.two_stage import TwoStageNetwork
from karyon.errors import DataError
from lightning_modules.tuning import TuningTrainer
from lightning_modules.two_stage import TwoStage

Origin = Literal["true", "found"]


class BoundingTrainer(TuningTrainer):
    """A trainer that also measures the bounds of a model's stages."""

    bounds: dict[tuple[Origin, Origin], dict[str, float]]

    def bound(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | Path | None = None,
        part: Literal["val", "test"] = "val",
    ) -> None:
        """Scores a two-stage model with the true boxes, the true masks, both, and neither.

        True boxes in place of the detector's bound what a better detector could gain; true masks in its boxes, what a
        better segmenter could: a box takes the object whose box it overlaps most. True masks go through the grid of a
        crop too, so that what true boxes and true masks still lose is what pasting costs.

        Args:
            model: a `TwoStage`.
            datamodule: gives the images.
            ckpt_path: none; the model has its own.
            part: the validation images, or the test images.

        Raises:
            DataError: the model has no two stages, or an image is not annotated.
        """
        if not isinstance(model, TwoStage):
            raise DataError(
                f"{type(model).__name__} has no two stages of which one could be better: give a config of "
                "lightning_modules.two_stage.TwoStage."
            )
        evaluate = self.validate if part == "val" else self.test
        self.bounds = {}
        sources: tuple[Origin, Origin] = ("true", "found")
        # The model as it is comes last, so that its record and its pictures are what stays in the folder.
        for boxes, masks in product(sources, repeat=2):
            print(f"{boxes} boxes, {masks} masks ({len(self.bounds) + 1} of 4)", flush=True)
            with in_place_of_stages(model, boxes, masks):
                evaluate(model, datamodule=datamodule, verbose=False)
            metrics = {key: float(value) for key, value in self.callback_metrics.items()}
            self.bounds[boxes, masks] = {key.removeprefix(f"{part}/"): value for key, value in metrics.items()}


@contextmanager
def in_place_of_stages(model: TwoStage, boxes: Origin, masks: Origin) -> Iterator[None]:
    """Puts the truth in place of a model's stages for a while."""
    postprocessing: Any = model.postprocessing
    if boxes == "true" and "nms_threshold" in postprocessing.choices:
        # None of the true boxes is a double, however closely two nuclei lie.
        model.postprocessing = replace(postprocessing, nms_threshold=1.0)

    def detect(batch: Batch) -> list[Detections]:
        finder = partial(_find, model.network, batch, boxes, masks)
        return replace(model.predictor, finder=finder).detect(batch.image, batch.sizes)

    # On the instance, before the method of the class.
    vars(model)["detect"] = detect
    try:
        yield
    finally:
        model.postprocessing = postprocessing
        del vars(model)["detect"]


def _find(
    network: TwoStageNetwork, batch: Batch, boxes: Origin, masks: Origin, images: Iterable[Tensor], choice: Choice
) -> list[Detections]:
    """What is found in the images of a batch, with the truth in place of a stage."""
    found = []
    for number, image in enumerate(images):
        first = true_detections(batch, number) if boxes == "true" else network.find_boxes(image)
        framed = replace(choice(first), margin=network.margin)
        truth = annotation(batch)[number]
        found.append(
            true_masks(truth, framed, network.crop_size) if masks == "true" else network.find_masks(image, framed)
        )
    return found


def true_detections(batch: Batch, number: int) -> Detections:
    """The boxes of the annotated objects of one image of a batch, all of them certain."""
    boxes = true_boxes(annotation(batch)[number]).to(batch.image)
    return Detections(boxes, torch.ones_like(boxes[:, 0]))


def true_masks(labels: Tensor, found: Detections, cells: int) -> Detections:
    """Gives each box the mask of the annotated object whose own box has the greatest IoU with it.

    Args:
        labels: integers (H, W), 1..N without gaps.
        found: the boxes; their frames are what the masks cover.
        cells: of a mask's grid, in each direction; each takes the pixel that its centre lies in.

    Returns:
        on the CPU; a box that touches no object's has an empty mask.

    >>> boxes = torch.tensor([[0.0, 0.0, 3.0, 1.0]])
    >>> true_masks(torch.tensor([[1, 1, 2, 2]]), Detections(boxes, torch.ones(1)), cells=3).masks[0, 0]
    tensor([1., 1., 0.])
    """
    found, labels = found.cpu(), labels.cpu()
    # Background, for boxes that touch nothing.
    none = torch.zeros(len(found), 1)
    overlap = box_iou(found.boxes, true_boxes(labels))
    owners = torch.cat([none, overlap], dim=1).argmax(dim=1)
    # Beyond the image lies background too.
    padded = functional.pad(labels, (1, 1, 1, 1))
    centres = (torch.arange(cells) + 0.5) / cells
    masks = torch.zeros(len(found), cells, cells)
    for mask, frame, owner in zip(masks, found.frames, owners, strict=True):
        columns, rows = (
            ((low + centres * (high - low)).floor().long() + 1).clamp(0, length - 1)
            for low, high, length in zip(frame[:2], frame[2:], reversed(padded.shape), strict=True)
        )
        mask.copy_((padded[rows[:, None], columns] == owner) & (owner > 0))
    return replace(found, masks=masks)
