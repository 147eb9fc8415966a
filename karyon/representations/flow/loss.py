"""Flow: which way to the centre of the object? Pixels that arrive at the same place belong together."""

import torch
from torch import Tensor
from torch.nn import functional

from karyon.losses import BinaryCrossEntropy, annotated
from karyon.representations.flow.ways import encode
from karyon.representations.one_thread import one_thread
from karyon.representations.protocol import Representation

SCALE = 5.0  # the network says five times the flow, so that flow and foreground weigh about the same in the loss


class Flow(Representation):
    """Ways to the centre and the foreground's logit, 3 channels.

    The loss is the mean squared error of the ways, five times as long, and the cross-entropy of the foreground.

    Args:
        flow_weight: of the ways' loss, beside the foreground's.

    Source: Stringer et al. 2021, "Cellpose: a generalist algorithm for cellular segmentation".
    """

    def __init__(self, flow_weight: float = 0.5) -> None:
        self.flow_weight = flow_weight
        self._foreground_loss = BinaryCrossEntropy()

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Compares ways and logits (B, 3, H, W) with those of label images (B, H, W)."""
        with one_thread():
            target = encode(labels.clamp_min(0))
        output, target = annotated(labels, output, target)
        error = functional.mse_loss(output[:, :2].float(), SCALE * target[:, :2])
        loss: Tensor = self._foreground_loss(output[:, 2], target[:, 2])
        return loss + self.flow_weight * error

    def maps(self, output: Tensor) -> Tensor:
        """Turns output (B, 3, h, w) into ways, about 1 px long, and the foreground's probability."""
        output = output.detach().float()
        return torch.cat([output[:, :2] / SCALE, output[:, 2:].sigmoid()], dim=1)
