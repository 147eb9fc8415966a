"""Border: background, body and touching border, three classes; where nuclei touch, the border parts them."""

import torch
from torch import Tensor
from torch.nn import functional

from karyon.losses import annotated
from karyon.representations.distance.loss import object_maximum
from karyon.representations.one_thread import one_thread
from karyon.representations.protocol import Representation

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
        classes = encode(labels.clamp_min(0), self.width)
        output, target = annotated(labels, output, classes[:, None])
        # Sums over a batch overflow half precision.
        log_probability = output.float().log_softmax(1)
        truth = torch.cat([target == k for k in (BACKGROUND, BODY, BORDER)], dim=1)
        # Written out, since torch's cross-entropy of images has no deterministic implementation on a GPU.
        weight = truth * log_probability.new_tensor(self.weights)[:, None, None]
        entropy = -(weight * log_probability).sum() / weight.sum()
        return entropy + self.dice_weight * _dice_loss(log_probability.exp()[:, BODY:], truth[:, BODY:])

    def maps(self, output: Tensor) -> Tensor:
        """Turns logits (B, 3, h, w) into probabilities of background, body and border."""
        return output.detach().float().softmax(1)


def _dice_loss(probability: Tensor, truth: Tensor, smooth: float = 1.0) -> Tensor:
    """One minus the mean soft Dice coefficient of several classes (B, K, H, W), sums taken over the whole batch.

    ``smooth`` is that of `karyon.losses.SoftDice`, px.
    """
    intersection = (probability * truth).sum((0, 2, 3))
    total = (probability + truth).sum((0, 2, 3))
    return 1 - ((2 * intersection + smooth) / (total + smooth)).mean()
