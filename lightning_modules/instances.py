"""What a model says of an image: instances, and the prediction that carries them."""

from dataclasses import dataclass

import torch
from scipy import ndimage
from torch import Tensor


@dataclass(frozen=True)
class Instances:
    """Objects of one image; row k of ``scores`` and ``boxes`` is the object with id k + 1.

    Attributes:
        labels: int32 (H, W), on the CPU: 0 background, 1..N the objects.
        scores: float32 (N,), confidence in [0, 1].
        boxes: int64 (N, 4), x0, y0, x1, y1 in px, half-open (x1 and y1 are one past the last pixel).
    """

    labels: Tensor
    scores: Tensor
    boxes: Tensor

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def from_labels(cls, labels: Tensor, scores: Tensor | None = None) -> "Instances":
        """Derives the boxes from a label image.

        Args:
            labels: integers (H, W), 1..N without gaps.
            scores: (N,) in [0, 1]; 1 each by default.

        >>> Instances.from_labels(torch.tensor([[0, 1, 1], [0, 0, 2]])).boxes
        tensor([[1, 0, 3, 1],
                [2, 1, 3, 2]])
        """
        labels = labels.cpu().int()
        slices = ndimage.find_objects(labels.numpy())
        boxes = torch.tensor([[x.start, y.start, x.stop, y.stop] for y, x in slices], dtype=torch.int64).reshape(-1, 4)
        scores = torch.ones(len(boxes)) if scores is None else scores.cpu().float()
        return cls(labels, scores, boxes)


def median_diameter(instances: Instances) -> float:
    """The median of the diameters of discs of equal areas, px.

    >>> round(median_diameter(Instances.from_labels(torch.ones(2, 2).long())), 2)
    2.26
    """
    area = torch.bincount(instances.labels.flatten())[1:].double()
    return float((2 * (area / torch.pi).sqrt()).median())


@dataclass(frozen=True)
class Prediction:
    """A model's answer for one image, at the image's original size.

    Attributes:
        name: the image's identifier.
        size: height and width of the original image, px.
        probability: float32 (H, W), probability of the foreground, on the CPU; None for models that give none.
        instances: the objects.
        page: of a file of several, from 1; 0 where the image has a file of its own.
    """

    name: str
    size: tuple[int, int]
    probability: Tensor | None
    instances: Instances
    page: int = 0

    def to(self, device: torch.device) -> "Prediction":
        """Stays on the CPU: `Trainer.predict` asks so of what it hands back."""
        return self
