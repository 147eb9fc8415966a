"""Losses on logits (B, C, H, W) and targets in [0, 1] of the same shape."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class BinaryCrossEntropy(nn.Module):
    """Mean binary cross-entropy over all pixels."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(logits.float(), target.float())


class SoftDice(nn.Module):
    """One minus the soft Dice coefficient, sums taken over the whole batch.

    Args:
        smooth: added to numerator and denominator, px; keeps a gradient where the target is empty. Li & Fu use 1.

    Source: Milletari et al. 2016, "V-Net", section 3; Li & Fu, "Nucleus Detection and Segmentation".
    """

    def __init__(self, smooth: float = 1.0) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        # Sums over a batch overflow half precision.
        probability, target = logits.float().sigmoid(), target.float()
        intersection = (probability * target).sum()
        return 1 - (2 * intersection + self.smooth) / (probability.sum() + target.sum() + self.smooth)


class SoftIoU(nn.Module):
    """One minus the soft intersection over union: ``1 - I/U``, ``I = sum(XY)``, ``U = sum(X + Y - XY)``.

    Sums are taken over the whole batch, so that an image without objects still has a gradient.

    Source: Wang & Song, "Using deep learning approaches to segment, detect, and extract the cellular nuclei from
        fluorescence microscopy images".
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        probability, target = logits.float().sigmoid(), target.float()
        intersection = (probability * target).sum()
        union = (probability + target - probability * target).sum()
        return 1 - intersection / union.clamp_min(torch.finfo(union.dtype).tiny)


class Sum(nn.Module):
    """A weighted sum of losses.

    Args:
        losses: each called with the same arguments.
        weights: one factor a loss; all 1 by default.

    Raises:
        ValueError: the numbers of losses and weights differ.
    """

    def __init__(self, losses: Sequence[nn.Module], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)
        self.weights = list(weights) if weights is not None else [1.0] * len(losses)
        if len(self.weights) != len(self.losses):
            raise ValueError(f"Sum has {len(self.losses)} losses and {len(self.weights)} weights: give one a loss.")

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        terms = [weight * loss(logits, target) for weight, loss in zip(self.weights, self.losses, strict=True)]
        return torch.stack(terms).sum()
