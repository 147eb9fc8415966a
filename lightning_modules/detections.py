"""What a detector says of an image: boxes, their scores and, from some detectors, the mask inside each box."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Detections:
    """Objects of one image, before they are laid out in a label image; boxes may overlap.

    Attributes:
        boxes: float32 (N, 4), x0, y0, x1, y1 in px of the image that was given; a pixel's left edge is its column,
            its right edge one more.
        scores: float32 (N,), confidence in [0, 1].
        masks: float32 (N, m, m), the probability of the object on a grid of m x m cells that divide its box evenly;
            None from detectors of boxes alone.
    """

    boxes: Tensor
    scores: Tensor
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, chosen: Tensor) -> "Detections":
        """Some of them, chosen by indices or by a mask."""
        return Detections(self.boxes[chosen], self.scores[chosen], None if self.masks is None else self.masks[chosen])

    def scaled(self, size: tuple[int, int], new: tuple[int, int]) -> "Detections":
        """The same objects in an image that was resized.

        Args:
            size: height and width of the image that they were found in, px.
            new: height and width that it is resized to, px.

        >>> import torch
        >>> Detections(torch.tensor([[0.0, 2.0, 4.0, 6.0]]), torch.ones(1)).scaled((8, 8), (16, 24)).boxes
        tensor([[ 0.,  4., 12., 12.]])
        """
        factors = self.boxes.new_tensor([new[1] / size[1], new[0] / size[0]]).repeat(2)
        return Detections(self.boxes * factors, self.scores, self.masks)

    def cpu(self) -> "Detections":
        return Detections(self.boxes.cpu(), self.scores.cpu(), None if self.masks is None else self.masks.cpu())
