"""The one way from a prepared image to its objects, for models that find boxes first."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from karyon.detection.detections import Detections
from karyon.detection.postprocessing import DetectionPostprocessing
from karyon.inference.blocks import Blocks, Found
from karyon.inference.engines import Images, Precision
from karyon.inference.predictor import ImagePredictor, rescaled
from karyon.inference.views import areas_at

Choice = Callable[[Detections], Detections]
"""Which of the boxes are worth a mask."""


def everything(found: Detections) -> Detections:
    """All of them."""
    return found


class Finder(Protocol):
    """Finds boxes, and perhaps masks, in images (C, H, W): all that is chosen, the surest first."""

    def __call__(self, images: Iterable[Tensor], choice: Choice = everything) -> list[Detections]: ...


@dataclass
class NetworkFinder:
    """A detector of torchvision's kind, which leaves size and normalisation of the image to the preprocessing.

    Attributes:
        network: one of `karyon.networks.rcnn` or `karyon.networks.single_level_rcnn`.
    """

    network: nn.Module

    @property
    def has_masks(self) -> bool:
        """Whether the network finds masks too."""
        heads: Any = self.network.roi_heads
        return bool(heads.has_mask())

    def __call__(self, images: Iterable[Tensor], choice: Choice = everything) -> list[Detections]:
        found = self.network(list(images))
        masks = [single["masks"][:, 0].float() if self.has_masks else None for single in found]
        return [
            choice(Detections(single["boxes"], single["scores"], m)) for single, m in zip(found, masks, strict=True)
        ]


@dataclass
class DetectionPredictor(ImagePredictor):
    """Applies a model that finds boxes.

    Attributes:
        finder: finds boxes and masks.
        postprocessing: makes a label image of them.
        device: where the finder computes.
        precision: bf16 computes in half precision where torch thinks it safe.
        blocks, model_diameter: see `karyon.inference.predictor.ImagePredictor`.
    """

    finder: Finder
    postprocessing: DetectionPostprocessing
    device: torch.device
    precision: Precision = "fp32"
    blocks: Blocks | None = None
    model_diameter: float | None = None

    @torch.inference_mode()
    def detect(
        self, images: Images | Tensor, sizes: Sequence[tuple[int, int]], choice: Choice = everything
    ) -> list[Detections]:
        """What is found in each of the images (B, C, H, W) and chosen, in px of the original, on the CPU."""
        if not isinstance(images, Tensor):
            images = torch.from_numpy(np.require(images, requirements=("C", "W")))
        given = images.to(self.device)
        seen = (given.shape[-2], given.shape[-1])
        with torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext():
            found = self.finder(given, choice)
        return [single.cpu().scaled(seen, size) for single, size in zip(found, sizes, strict=True)]

    def at_once(
        self, images: Images, sizes: Sequence[tuple[int, int]], scale: float = 1.0, probability: bool = True
    ) -> list[Found]:
        """Finds the objects of prepared images; see `karyon.inference.predictor.ImagePredictor.at_once`."""
        postprocessing = areas_at(scale, self.postprocessing)
        found = self.detect(rescaled(images, scale), sizes, postprocessing.surest)
        return [(None, postprocessing(single, size)) for single, size in zip(found, sizes, strict=True)]
