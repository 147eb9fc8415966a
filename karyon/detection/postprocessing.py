"""From a detector's boxes and masks, which may overlap, to a label image. Its arguments are parameters."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torchvision.ops import nms

from karyon.detection.detections import Detections
from karyon.detection.pasting import paste_masks
from karyon.errors import DataError
from karyon.instances import Instances

SCORES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
OVERLAPS = (0.2, 0.3, 0.4, 0.5)
AREAS = (0, 10, 20, 40)


class DetectionPostprocessing(Protocol):
    """Turns the detections of one image into a label image.

    Attributes:
        choices: of each parameter, the values that `tune` tries.
        score_threshold: less sure detections are dropped.
        nms_threshold: of two boxes of a greater IoU the less sure one is dropped.
    """

    choices: ClassVar[dict[str, tuple[float, ...]]]
    score_threshold: float
    nms_threshold: float

    def surest(self, detections: Detections) -> Detections:
        """Those that are laid out: what else a network finds needs no mask."""
        return surest(detections, self.score_threshold, self.nms_threshold)

    def __call__(self, detections: Detections, size: tuple[int, int]) -> Instances:
        """Lays out the detections of an image of height and width ``size``, px."""
        ...

    def whole(self, instances: Instances) -> Instances:
        """What is left of an image's objects, once all are found, block by block where it is large."""
        return instances


@dataclass
class MaskPostprocessing(DetectionPostprocessing):
    """Pastes the masks of the surest detections; where two overlap, the surer one owns the pixel.

    Attributes:
        score_threshold: less sure detections are dropped.
        nms_threshold: of two boxes of a greater IoU the less sure one is dropped. The network does so at .5 already.
        mask_threshold: pixels of at least this probability belong to an object.
        min_area: smaller objects are dropped, px.
    """

    score_threshold: float = 0.5
    nms_threshold: float = 0.5
    mask_threshold: float = 0.5
    min_area: int = 10
    choices: ClassVar[dict[str, tuple[float, ...]]] = {
        "score_threshold": SCORES,
        "mask_threshold": (0.3, 0.4, 0.5, 0.6, 0.7),
        "nms_threshold": OVERLAPS,
        "min_area": AREAS,
    }

    def __call__(self, detections: Detections, size: tuple[int, int]) -> Instances:
        """Lays out the detections of an image of height and width ``size``, px.

        Raises:
            DataError: they have no masks.
        """
        kept = self.surest(detections)
        if kept.masks is None:
            raise DataError(
                "The network finds boxes without masks: set model.init_args.postprocessing to "
                "karyon.detection.postprocessing.BoxPostprocessing."
            )
        return paste_masks(kept.frames, kept.scores, kept.masks, size, self.mask_threshold, self.min_area)


@dataclass
class BoxPostprocessing(DetectionPostprocessing):
    """Fills each box with its ellipse, so that a detector of boxes alone can be drawn, written and scored.

    Where two ellipses overlap, a pixel goes to the surer object, or, of equals, to the one whose centre is nearer, in
    terms of its size.

    Attributes:
        score_threshold: less sure detections are dropped.
        nms_threshold: of two boxes of a greater IoU the less sure one is dropped. The network does so at .5 already.
        min_area: smaller objects are dropped, px.
    """

    score_threshold: float = 0.5
    nms_threshold: float = 0.5
    min_area: int = 10
    choices: ClassVar[dict[str, tuple[float, ...]]] = {
        "score_threshold": SCORES,
        "nms_threshold": OVERLAPS,
        "min_area": AREAS,
    }

    def __call__(self, detections: Detections, size: tuple[int, int]) -> Instances:
        """Lays out the detections of an image of height and width ``size``, px."""
        kept = self.surest(detections)
        position = torch.linspace(-1, 1, 57)[1::2]
        # 1 in the centre and one half on the ellipse.
        disc = (1 - torch.hypot(position[:, None], position) / 2).clamp_min(0)
        return paste_masks(kept.boxes, kept.scores, disc.expand(len(kept), -1, -1), size, 0.5, self.min_area)


def surest(detections: Detections, score_threshold: float, nms_threshold: float) -> Detections:
    """Drops detections that are not sure enough, and those that overlap a surer one.

    Args:
        detections: of one image.
        score_threshold: the least score that is kept.
        nms_threshold: the greatest IoU of two boxes that both are kept.

    Returns:
        what is left, the surest first.

    >>> boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.0], [5.0, 5.0, 9.0, 9.0]])
    >>> surest(Detections(boxes, torch.tensor([0.6, 0.7, 0.4])), 0.5, 0.5).scores
    tensor([0.7000])
    """
    kept = detections[detections.scores >= score_threshold]
    return kept[nms(kept.boxes, kept.scores, nms_threshold)]
