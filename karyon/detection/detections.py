"""What a detector says of an image: boxes, their scores and, from some detectors, the mask inside each box."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Detections:
    """Objects of one image, before they are laid out in a label image; boxes may overlap.

    Attributes:
        boxes: float32 (N, 4), x0, y0, x1, y1 in px of the image that was given; a pixel's left edge is its column,
            its right edge one more.
        scores: float32 (N,), confidence in [0, 1].
        masks: float32 (N, m, m), the probability of the object on a grid of m x m cells that divide its frame evenly;
            None from detectors of boxes alone.
        margin: by how much a frame is larger than its box, on each side, as a share of the box's width or height.
    """

    boxes: Tensor
    scores: Tensor
    masks: Tensor | None = None
    margin: float = 0.0

    @property
    def frames(self) -> Tensor:
        """What the masks cover, (N, 4) as the boxes.

        >>> Detections(torch.tensor([[0.0, 2.0, 4.0, 6.0]]), torch.ones(1), margin=0.5).frames
        tensor([[-2.,  0.,  6.,  8.]])
        """
        reach = self.margin * (self.boxes[:, 2:] - self.boxes[:, :2])
        return torch.cat([self.boxes[:, :2] - reach, self.boxes[:, 2:] + reach], dim=1)

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, chosen: Tensor) -> "Detections":
        """Some of them, chosen by indices or by a mask."""
        masks = None if self.masks is None else self.masks[chosen]
        return replace(self, boxes=self.boxes[chosen], scores=self.scores[chosen], masks=masks)

    def scaled(self, size: tuple[int, int], new: tuple[int, int]) -> "Detections":
        """The same objects in an image that was resized.

        Args:
            size: height and width of the image that they were found in, px.
            new: height and width that it is resized to, px.

        >>> Detections(torch.tensor([[0.0, 2.0, 4.0, 6.0]]), torch.ones(1)).scaled((8, 8), (16, 24)).boxes
        tensor([[ 0.,  4., 12., 12.]])
        """
        factors = self.boxes.new_tensor([new[1] / size[1], new[0] / size[0]]).repeat(2)
        return replace(self, boxes=self.boxes * factors)

    def cpu(self) -> "Detections":
        masks = None if self.masks is None else self.masks.cpu()
        return replace(self, boxes=self.boxes.cpu(), scores=self.scores.cpu(), masks=masks)
