"""Losses on logits (B, C, H, W) and targets in [0, 1] of the same shape."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def annotated(labels: Tensor, *maps: Tensor) -> list[Tensor]:
    """The pixels of maps where something is annotated.

    Args:
        labels: (B, H, W), below 0 where nothing is annotated.
        maps: (B, K, H, W) each.

    Returns:
        the maps as they are where everything is annotated, else of each the N annotated pixels, (1, K, N, 1); where
        there is none a pixel of 0, from which nothing is learned.

    >>> annotated(torch.tensor([[[0, -1, 5]]]), torch.tensor([[[[1.0, 2.0, 3.0]]]]))[0].flatten()
    tensor([1., 3.])
    """
    known = labels >= 0
    if known.all():
        return list(maps)
    if not known.any():
        return [0 * values[:1, :, :1, :1] for values in maps]
    return [values.movedim(1, -1)[known].T[None, ..., None] for values in maps]


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
