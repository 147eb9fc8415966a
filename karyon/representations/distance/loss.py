"""Distance: how deep does a pixel lie in its object? Every object is a hill of height 1, with valleys between them."""

import torch
from torch import Tensor
from torch.nn import functional

from karyon.losses import BinaryCrossEntropy, annotated
from karyon.representations.one_thread import one_thread
from karyon.representations.protocol import Representation


@one_thread()
def encode(labels: Tensor) -> Tensor:
    """Measures how deep each pixel lies in its object, relative to the object's deepest pixel.

    Args:
        labels: integers (B, H, W), 0 is background.

    Returns:
        float32 (B, H, W) in [0, 1]: 0 in the background, above it in the objects, 1 where an object is deepest.

    >>> encode(torch.tensor([[[0, 1, 1, 1, 2, 0]]]))
    tensor([[[0.0000, 0.3333, 1.0000, 0.3333, 1.0000, 0.0000]]])
    """
    distance = boundary_distance(labels)
    return torch.where(labels > 0, distance / object_maximum(distance, labels), 0)


def boundary_distance(labels: Tensor) -> Tensor:
    """Measures the exact Euclidean distance from each pixel of an object to the object's boundary.

    The boundary runs along the edges of the pixels, so the outermost pixels of an object lie 0.5 px from it, whether
    background or another object comes next. The image's own edge is not a boundary: an object may go on there.

    All is torch on the labels' device, for all objects at once: the nearest point of a boundary lies either straight
    above or below a pixel, or on an upright edge in some row. So the distances along the rows are passed on upwards and
    downwards, one row further at a time, as far as the deepest object reaches.

    Args:
        labels: integers (B, H, W), 0 is background.

    Returns:
        float32 (B, H, W), px; H + W where an object fills the image, and of no meaning in the background.

    Source: Saito & Toriwaki 1994, "New algorithms for Euclidean distance transformation", for the two passes; van den
        Boomgaard et al. 1996, "Quadratic structuring functions in mathematical morphology", for the second by erosions.

    >>> boundary_distance(torch.tensor([[[1, 1, 0], [1, 1, 1], [1, 1, 1]]]))[0, 2]
    tensor([2.1213, 1.5811, 1.5000])
    """
    along, across = _row_distance(labels), _row_distance(labels.mT).mT
    # A number that a GPU has to hand over; another one is the greatest id.
    reach = torch.where(labels > 0, torch.minimum(along, across), 0).amax().item()
    square = along.square()
    for rows in range(1, min(int(reach), labels.shape[-2] - 1) + 1):
        # An edge that many rows away is (rows - 0.5) px away, less than the centre of its pixel; and squares that
        # rise by these steps, one after the other, are those of 0.5, 1.5, 2.5 ... px.
        raised = square + (0.25 if rows == 1 else 2 * (rows - 1))
        square[:, 1:] = torch.minimum(square[:, 1:], raised[:, :-1])
        square[:, :-1] = torch.minimum(square[:, :-1], raised[:, 1:])
    return torch.minimum(square.sqrt(), across)


def _row_distance(labels: Tensor) -> Tensor:
    """Distance to the nearest edge between different labels in the pixel's row, px; H + W where there is none."""
    far = float(labels.shape[-2] + labels.shape[-1])
    column = torch.arange(labels.shape[-1], dtype=torch.float32, device=labels.device)
    change = labels[..., 1:] != labels[..., :-1]
    edge = functional.pad(torch.where(change, column[1:] - 0.5, -far), (1, 0), value=-far)
    before = edge.cummax(-1).values
    edge = functional.pad(torch.where(change, column[1:] - 0.5, 2 * far), (0, 1), value=2 * far)
    after = edge.flip(-1).cummin(-1).values.flip(-1)
    return torch.minimum(column - before, after - column).clamp_max(far)


def object_maximum(values: Tensor, labels: Tensor) -> Tensor:
    """Finds the greatest value in each object; the background of an image counts as one.

    Args:
        values: (B, H, W).
        labels: integers (B, H, W), not negative.

    Returns:
        (B, H, W), each pixel with the maximum of the object that it belongs to.

    >>> object_maximum(torch.tensor([[[3, 5, 2]]]), torch.tensor([[[1, 1, 4]]]))
    tensor([[[5, 5, 2]]])
    """
    ids = int(labels.amax()) + 1
    index = labels + ids * torch.arange(len(labels), device=labels.device)[:, None, None]
    maxima = values.new_empty(len(labels) * ids)
    maxima.scatter_reduce_(0, index.flatten(), values.flatten(), "amax", include_self=False)
    return maxima[index]


class Distance(Representation):
    """Two maps: the foreground's logit, and the relative distance from the boundary.

    The loss is the cross-entropy of the foreground and the smooth L1 distance of the distances. Background is 0 and
    counts less there than objects: were it left out, as its probability would allow, nothing would teach the network
    that narrow gaps between objects are valleys.

    Args:
        weight: of the distances' loss, beside the foreground's.
        background_weight: of a pixel of background, beside a pixel of an object, in the distances' loss.
        beta: difference of distances from which on the loss rises linearly.

    Source: Naylor et al. 2019, "Segmentation of nuclei in histopathology images by deep regression of the distance
        map", who do not normalise it.
    """

    def __init__(self, weight: float = 1.0, background_weight: float = 0.1, beta: float = 0.1) -> None:
        self.weight = weight
        self.background_weight = background_weight
        self.beta = beta
        self._foreground_loss = BinaryCrossEntropy()

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Compares logits and distances (B, 2, H, W) with those of label images (B, H, W)."""
        output, target = annotated(labels, output, encode(labels.clamp_min(0))[:, None])
        # Half precision is too coarse for sums over a batch.
        logits, distance = output.float().unbind(1)
        inside = target[:, 0] > 0
        difference = functional.smooth_l1_loss(distance, target[:, 0], reduction="none", beta=self.beta)
        weights = torch.where(inside, 1.0, self.background_weight)
        regression = (weights * difference).sum() / weights.sum().clamp_min(1)
        loss: Tensor = self._foreground_loss(logits, inside) + self.weight * regression
        return loss

    def maps(self, output: Tensor) -> Tensor:
        """Turns output (B, 2, h, w) into the foreground's probability and the distance, both in [0, 1]."""
        output = output.detach().float()
        return torch.stack([output[:, 0].sigmoid(), output[:, 1].clamp(0, 1)], dim=1)
