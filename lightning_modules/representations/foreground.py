"""Foreground: is a pixel inside any object? Touching objects become one; the floor that others are measured against."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from lightning_modules.instances import Instances


class Foreground:
    """One logit a pixel: the probability of lying inside an object.

    Args:
        loss: compares logits and targets, both (B, 1, H, W); see `lightning_modules.losses`.
    """

    def __init__(self, loss: nn.Module) -> None:
        self._loss = loss

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Compares logits (B, 1, H, W) with the foreground of label images (B, H, W)."""
        loss: Tensor = self._loss(output, (labels > 0).unsqueeze(1).to(output.dtype))
        return loss

    def maps(self, output: Tensor, size: tuple[int, int]) -> Tensor:
        """Turns logits (1, h, w) into probabilities (1, H, W) at the original size."""
        probability = output.detach().float().sigmoid().unsqueeze(0)
        if probability.shape[-2:] != size:
            probability = functional.interpolate(probability, size=size, mode="bilinear", antialias=True)
        return probability[0]


@dataclass
class ForegroundDecoder:
    """Threshold, then 8-connected components; an object's score is its mean probability.

    Attributes:
        threshold: pixels of at least this probability are foreground.
        min_area: smaller objects are dropped, px.
    """

    threshold: float = 0.5
    min_area: int = 10

    def __call__(self, maps: Tensor) -> Instances:
        probability = self.probability(maps).numpy()
        labels, count = ndimage.label(probability >= self.threshold, structure=np.ones((3, 3)))
        area = np.bincount(labels.ravel(), minlength=count + 1)
        keep = area >= self.min_area
        keep[0] = False
        labels = np.where(keep, np.cumsum(keep), 0)[labels]
        total = np.bincount(labels.ravel(), probability.ravel(), minlength=keep.sum() + 1)[1:]
        return Instances.from_labels(torch.from_numpy(labels), torch.from_numpy(total / area[keep]))

    def probability(self, maps: Tensor) -> Tensor:
        return maps[0].cpu()
