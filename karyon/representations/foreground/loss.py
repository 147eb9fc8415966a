"""Foreground: is a pixel inside any object? Touching objects become one; the floor that others are measured against."""

from torch import Tensor, nn

from karyon.losses import annotated
from karyon.representations.protocol import Representation


class Foreground(Representation):
    """One logit a pixel: the probability of lying inside an object.

    A softmax over the two classes inside and outside, as SegNet's authors have it, is the same model: its logit is the
    difference of their two.

    Args:
        loss: compares logits and targets, both (B, 1, H, W); see `karyon.losses`.
    """

    def __init__(self, loss: nn.Module) -> None:
        self._loss = loss

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Compares logits (B, 1, H, W) with the foreground of label images (B, H, W)."""
        output, inside = annotated(labels, output, (labels > 0).unsqueeze(1))
        loss: Tensor = self._loss(output, inside.to(output.dtype))
        return loss

    def maps(self, output: Tensor) -> Tensor:
        """Turns logits (B, 1, h, w) into probabilities."""
        return output.detach().float().sigmoid()
