"""Border: background, body and touching border, three classes; where nuclei touch, the border parts them."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from lightning_modules.instances import Instances
from lightning_modules.representations.distance import object_maximum
from lightning_modules.representations.foreground import scored_instances, seeded_watershed
from lightning_modules.representations.protocol import Representation
from lightning_modules.representations.threads import one_thread

BACKGROUND, BODY, BORDER = range(3)


@one_thread()
def encode(labels: Tensor, width: int = 2) -> Tensor:
    """Finds the class of each pixel.

    Border are the pixels of an object within ``width`` px of another object, counting diagonal steps as 1 px; between
    two objects that touch it is twice as wide. An object that would be all border keeps the pixels farthest from the
    others as its body, so that a small nucleus in a cluster does not vanish.

    Args:
        labels: integers (B, H, W) below 2^24, 0 is background.
        width: px.

    Returns:
        int64 (B, H, W): 0 background, 1 body, 2 border.

    >>> encode(torch.tensor([[[1, 1, 1, 2, 2, 0, 3]]]), width=1)
    tensor([[[1, 1, 2, 2, 1, 0, 1]]])
    """
    # Poolings of any device find the greatest and the smallest id around a pixel; where the two differ, another object
    # is near. They take floats only.
    ids = labels.float()
    greatest, smallest = ids, torch.where(labels > 0, -ids, -torch.inf)
    distance = torch.ones_like(ids)
    for _ in range(width):
        greatest, smallest = (functional.max_pool2d(m, 3, stride=1, padding=1) for m in (greatest, smallest))
        distance += greatest == -smallest
    body = distance == object_maximum(distance, labels)
    return torch.where(labels > 0, torch.where(body, BODY, BORDER), BACKGROUND)


class Border(Representation):
    """Three logits a pixel, under a softmax: background, body and border.

    The loss is the weighted cross-entropy of the classes, and the mean soft Dice loss of body and border.

    Args:
        width: of the border in each of the objects that touch, px.
        weights: of background, body and border in the cross-entropy; borders are rare.
        dice_weight: of the Dice loss, beside the cross-entropy.

    Source: the winners of the Data Science Bowl 2018, https://github.com/selimsef/dsb2018_topcoders
    """

    def __init__(
        self, width: int = 2, weights: tuple[float, float, float] = (1.0, 1.0, 5.0), dice_weight: float = 1.0
    ) -> None:
        self.width = width
        self.weights = weights
        self.dice_weight = dice_weight

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Compares logits (B, 3, H, W) with the classes of label images (B, H, W)."""
        # Sums over a batch overflow half precision.
        log_probability = output.float().log_softmax(1)
        target = encode(labels, self.width)
        truth = torch.stack([target == k for k in (BACKGROUND, BODY, BORDER)], dim=1)
        # Written out, since torch's cross-entropy of images has no deterministic implementation on a GPU.
        weight = truth * log_probability.new_tensor(self.weights)[:, None, None]
        entropy = -(weight * log_probability).sum() / weight.sum()
        return entropy + self.dice_weight * _dice_loss(log_probability.exp()[:, BODY:], truth[:, BODY:])

    def maps(self, output: Tensor) -> Tensor:
        """Turns logits (B, 3, h, w) into probabilities of background, body and border."""
        return output.detach().float().softmax(1)


def _dice_loss(probability: Tensor, truth: Tensor, smooth: float = 1.0) -> Tensor:
    """One minus the mean soft Dice coefficient of several classes (B, K, H, W), sums taken over the whole batch.

    ``smooth`` is that of `lightning_modules.losses.SoftDice`, px.
    """
    intersection = (probability * truth).sum((0, 2, 3))
    total = (probability + truth).sum((0, 2, 3))
    return 1 - ((2 * intersection + smooth) / (total + smooth)).mean()


@dataclass
class BorderDecoder:
    """A watershed from the bodies over all of the foreground, so that borders return to their objects.

    The foreground is body and border together; the score of an object is its mean probability of either.

    Attributes:
        threshold: pixels of at least this probability are foreground.
        seed_threshold: 8-connected components where the probability of body less that of border is at least this
            become an object each.
        min_seed_area: smaller seeds are dropped, px.
        min_area: smaller objects are dropped, px.
        dilation: by how much objects are grown at the end, px; they never run into each other.
    """

    threshold: float = 0.5
    seed_threshold: float = 0.5
    min_seed_area: int = 3
    min_area: int = 10
    dilation: int = 0
    knobs: ClassVar[dict[str, tuple[float, ...]]] = {
        "threshold": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        "seed_threshold": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        "min_seed_area": (1, 3, 5, 10),
        "min_area": (0, 10, 20, 40, 80),
        "dilation": (0, 1, 2),
    }

    def __call__(self, maps: Tensor) -> Instances:
        probability = self.probability(maps).numpy()
        height = (maps[BODY] - maps[BORDER]).cpu().numpy()
        mask = probability >= self.threshold
        labels = seeded_watershed(height, mask, self.seed_threshold, self.min_seed_area, connectivity=2)
        return scored_instances(labels, probability, self.min_area, self.dilation)

    def probability(self, maps: Tensor) -> Tensor:
        return maps[BODY : BORDER + 1].sum(0).cpu()
