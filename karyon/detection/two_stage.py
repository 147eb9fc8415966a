"""Detect, then segment: a network that finds boxes and one that outlines the object in a crop around each."""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from karyon.detection.detections import Detections
from karyon.detection.predictor import Choice, NetworkFinder, everything

CROP_SIDES = range(1, 513)  # px
PASS = 2**20  # px of crops that the second network is given at once, whatever the number of objects


class TwoStageNetwork(nn.Module):
    """Finds boxes, outlines the object in a crop around each, and leaves the masks in their frames.

    A `karyon.detection.predictor.Finder`, for inference alone: each network is trained by itself.

    Args:
        detector: as `karyon.detection.predictor.NetworkFinder` wants it; masks of its own are not used.
        segmenter: crops (B, C, h, w) to logits (B, 1, h, w).
        crop_size: height and width of the crops, px.
        margin: by how much a crop is larger than its box, on each side, as a share of the box's width or height.

    Raises:
        ValueError: size or margin are out of range.
    """

    def __init__(self, detector: nn.Module, segmenter: nn.Module, crop_size: int, margin: float) -> None:
        super().__init__()
        if crop_size not in CROP_SIDES or not 0 <= margin <= 4:
            raise ValueError(f"crops of {crop_size} px with a margin of {margin}: expected 1 to 512 px, and 0 to 4")
        self.detector, self.segmenter = detector, segmenter
        self.crop_size, self.margin = crop_size, margin

    def forward(self, images: Iterable[Tensor], choice: Choice = everything) -> list[Detections]:
        """Boxes in images (C, H, W), and a mask in each that is chosen."""
        return [self.find_masks(image, choice(self.find_boxes(image))) for image in images]

    def find_boxes(self, image: Tensor) -> Detections:
        """The first stage: boxes in an image (C, H, W)."""
        (found,) = NetworkFinder(self.detector)([image])
        return Detections(found.boxes, found.scores)

    def find_masks(self, image: Tensor, found: Detections) -> Detections:
        """The second stage: adds the masks, in frames that reach beyond the boxes by the margin."""
        framed = replace(found, margin=self.margin)
        # Without a box the whole image is one, so that a network of another input or output is noticed on any image.
        whole = found.boxes.new_tensor([[0, 0, image.shape[-1], image.shape[-2]]])
        frames = framed.frames if len(found) else whole
        masks = [
            self.segmenter(cut_crops(image, part, self.crop_size)).float().sigmoid()[:, 0]
            for part in frames.split(max(1, PASS // self.crop_size**2))
        ]
        return replace(framed, masks=torch.cat(masks)[: len(found)])


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
