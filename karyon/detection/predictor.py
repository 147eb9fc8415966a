"""The one way from a prepared image to its objects, for models that find boxes first."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from karyon import preprocessing
from karyon.detection.detections import Detections
from karyon.detection.postprocessing import DetectionPostprocessing
from karyon.inference.blocks import Found
from karyon.inference.engines import Images
from karyon.inference.predictor import Report
from karyon.inference.views import AS_IS, Diameter, View, choose_view, size_at
from karyon.preprocessing import Image, Region


class Finder(Protocol):
    """Finds boxes, and perhaps masks, in images (C, H, W): all that is possible, the surest first."""

    def __call__(self, images: Iterable[Tensor]) -> list[Detections]: ...


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

    def __call__(self, images: Iterable[Tensor]) -> list[Detections]:
        found = self.network(list(images))
        masks = [single["masks"][:, 0].float() if self.has_masks else None for single in found]
        return [Detections(single["boxes"], single["scores"], m) for single, m in zip(found, masks, strict=True)]


@dataclass
class DetectionPredictor:
    """Applies a model that finds boxes; each image as a whole.

    Attributes:
        finder: finds boxes and masks.
        postprocessing: makes a label image of them.
        device: where the finder computes.
        model_diameter: median diameter of the objects that it knows best, px; None where it is not known.
    """

    finder: Finder
    postprocessing: DetectionPostprocessing
    device: torch.device
    model_diameter: float | None = None

    @torch.inference_mode()
    def detect(self, images: Images | Tensor, sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """What is found in each of the images (B, C, H, W), in px of the original, on the CPU."""
        if not isinstance(images, Tensor):
            images = torch.from_numpy(np.require(images, requirements=("C", "W")))
        given = images.to(self.device)
        seen = (given.shape[-2], given.shape[-1])
        return [found.cpu().scaled(seen, size) for found, size in zip(self.finder(given), sizes, strict=True)]

    def predict(
        self, images: Images, sizes: Sequence[tuple[int, int]], names: Sequence[str], diameter: Diameter = None
    ) -> list[Found]:
        """Finds the objects of prepared images; see `karyon.inference.predictor.Predictor.predict`."""
        found = self.detect(images, sizes)
        return [(None, self.postprocessing(single, size)) for single, size in zip(found, sizes, strict=True)]

    def look(
        self,
        part: Callable[[Region], Image],
        size: tuple[int, int],
        diameter: Diameter = None,
        polarities: Sequence[bool] = (False,),
        report: Report | None = None,
        probability: bool = False,
    ) -> tuple[View, Found | None]:
        """Decides how an image is seen; see `karyon.inference.predictor.Predictor.look`."""
        return choose_view(lambda view: self.find(part, size, view), self.model_diameter, diameter, polarities)

    def find(
        self,
        part: Callable[[Region], Image],
        size: tuple[int, int],
        view: View = AS_IS,
        report: Report | None = None,
        probability: bool = False,
    ) -> Found:
        """Finds the objects of one image; see `karyon.inference.predictor.Predictor.find`."""
        image = part((slice(None), slice(None)))
        image = 1 - image if view.inverted else image
        if (seen := size_at(view.scale, *size)) != size:
            planes = np.ascontiguousarray(image.transpose(1, 2, 0))
            image = np.ascontiguousarray(preprocessing.resize(planes, seen).transpose(2, 0, 1))
        return self.predict(image[None], [size], [""])[0]
