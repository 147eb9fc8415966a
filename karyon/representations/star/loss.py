"""Star: how central is a pixel in its object, and how far is the object's boundary in each direction?"""

import math

import torch
from torch import Tensor

from karyon.errors import DataError
from karyon.losses import BinaryCrossEntropy, annotated
from karyon.representations.distance.loss import boundary_distance, object_maximum
from karyon.representations.one_thread import one_thread
from karyon.representations.protocol import Representation
from karyon.representations.star.postprocessing import directions
from karyon.representations.strips import Strip, pack

SPARSE = 17  # one of so many background pixels is enough to keep distances there small; prime, to meet all columns
LONGEST = 500.0  # px; what an untrained network says of distances must not cost gigabytes
CORE = 0.25  # of the way from a centre to the boundary: a better centre as near as that is one of the same object
NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


def encode(labels: Tensor, rays: int = 32) -> Tensor:
    """Measures how central each pixel is in its object, and its distances to the object's boundary.

    Args:
        labels: int64 (B, H, W), 0 is background, ids without large gaps.
        rays: number of directions, at equal angles; the first points right, the next ones further down.

    Returns:
        float32 (B, 1 + rays, H, W): object probability, as `object_probability` has it, and distances, as
        `ray_distances` has them, px; all 0 in the background.

    >>> encode(torch.tensor([[[0, 1, 1, 1, 2, 0]]]), rays=4)[0, :, 0]
    tensor([[0.0000, 0.5000, 1.0000, 0.5000, 1.0000, 0.0000],
            [0.0000, 2.5000, 1.5000, 0.5000, 0.5000, 0.0000],
            [0.0000, 0.5000, 0.5000, 0.5000, 0.5000, 0.0000],
            [0.0000, 0.5000, 1.5000, 2.5000, 0.5000, 0.0000],
            [0.0000, 0.5000, 0.5000, 0.5000, 0.5000, 0.0000]])
    """
    targets = torch.zeros(1 + rays, *labels.shape, device=labels.device)
    targets[0] = object_probability(labels)
    for pixels, distances in ray_distances(labels, rays):
        targets[1:].flatten(1)[:, pixels] = distances
    return targets.transpose(0, 1)


def object_probability(labels: Tensor) -> Tensor:
    """Measures how central each pixel is in its object: the distance to the nearest pixel outside over the greatest.

    The image's edge is not outside: the centre of an object that goes on there may lie there.

    Args:
        labels: int64 (B, H, W), 0 is background, ids without large gaps.

    Returns:
        float32 (B, H, W) in [0, 1]: 1 in the centre, above 0 in all of the object.
    """
    # The nearest pixel's centre is half a pixel, or a little more, beyond the boundary.
    with one_thread():
        distance = boundary_distance(labels) + 0.5
        return torch.where(labels > 0, distance / object_maximum(distance, labels), 0)


def ray_distances(labels: Tensor, rays: int) -> list[tuple[Tensor, Tensor]]:
    """Measures the distances from the objects' pixels to the boundary along rays; the image's edge is a boundary.

    As in StarDist a ray goes on in steps of 1 px, each rounded to a pixel, until that does not belong to the object.
    All is torch on the labels' device: a ray of all pixels takes a step at once.

    Args:
        labels: int64 (B, H, W), 0 is background, ids without large gaps.
        rays: number of directions, at equal angles; the first points right, the next ones further down.

    Returns:
        In parts that together are all objects: the pixels' positions in the flattened label images, int64 (n,), and
        their distances, float32 (rays, n), px.

    Source: `star_dist` of https://github.com/stardist/stardist
    """
    # The last step has led from some place in the object to some place outside: halfway to the next pixel's centre.
    half = torch.tensor([[0.5 / max(abs(dy), abs(dx))] for dy, dx in directions(rays)], device=labels.device)
    with one_thread():
        return [(strip.pixels, _whole_steps(strip, rays) + half) for strip in pack(labels)]


def _whole_steps(strip: Strip, rays: int) -> Tensor:
    """Steps that can be taken from a strip's pixels along rays without leaving the object, integers (rays, n)."""
    inside = torch.zeros(strip.rows * strip.columns, dtype=torch.uint8, device=strip.cells.device)
    inside[strip.cells] = 1
    return torch.stack([_steps(inside, strip, *ray).index_select(0, strip.cells) for ray in directions(rays)])


def _steps(inside: Tensor, strip: Strip, dy: float, dx: float) -> Tensor:
    """Number of steps of 1 px that can be taken from each cell of a strip without leaving the object."""
    alive = inside.clone()
    # Bytes are several times as fast as anything longer; the diagonal is shorter than one and a half sides.
    count = torch.zeros_like(inside, dtype=torch.uint8 if 1.5 * strip.side < 256 else torch.int16)
    step = 0
    while step % 4 or alive.amax():
        step += 1
        shift = _nearest(step * dy) * strip.columns + _nearest(step * dx)
        if abs(shift) >= len(alive):
            break
        moving = alive[: len(alive) - shift] if shift >= 0 else alive[-shift:]
        moving &= inside[shift:] if shift >= 0 else inside[:shift]
        count += alive
    return count


def _nearest(position: float) -> int:
    """Rounds to the nearest integer, halves away from 0, so that opposite rays take opposite steps."""
    return int(math.copysign(math.floor(abs(position) + 0.5 + 1e-9), position))


class Star(Representation):
    """Star-convex polygons: an object's probability and its distances along rays, 1 + R channels.

    The loss is the cross-entropy of the probability, and the mean absolute error of the distances, each pixel of an
    object weighted by its true probability, since polygons are taken from central pixels. Distances are what the
    network says, without an activation, as in StarDist; below 0 they become 0 in the maps.

    Args:
        rays: number of directions R, a multiple of 4, so that they turn with the image.
        distance_weight: of the distances' error, beside the cross-entropy.
        background_weight: of the mean absolute distance in the background, beside the error in the objects.

    Raises:
        DataError: the number of rays is not a multiple of 4.

    Source: Schmidt et al. 2018, "Cell detection with star-convex polygons"; weights from
        https://github.com/stardist/stardist
    """

    def __init__(self, rays: int = 32, distance_weight: float = 0.2, background_weight: float = 1e-4) -> None:
        if rays < 4 or rays % 4:
            raise DataError(f"Star has {rays} rays: choose a multiple of 4.")
        self.rays = rays
        self.distance_weight = distance_weight
        self.background_weight = background_weight
        self._probability_loss = BinaryCrossEntropy()

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Compares logits and distances (B, 1 + R, H, W) with those of label images (B, H, W)."""
        objects = labels.clamp_min(0)
        probability = object_probability(objects)
        loss: Tensor = self._probability_loss(*annotated(labels, output[:, :1], probability[:, None]))
        probability = probability.masked_fill(labels < 0, -1)
        return loss + self.distance_weight * self._distance_error(output[:, 1:], objects, probability)

    def _distance_error(self, output: Tensor, labels: Tensor, probability: Tensor) -> Tensor:
        """Weighted mean absolute error of distances (B, R, H, W), px; a probability of -1 is not annotated."""
        probability = probability.flatten()
        background = (probability == 0).nonzero()[::SPARSE, 0]
        parts = [(background, output.new_zeros(self.rays, len(background))), *ray_distances(labels, self.rays)]
        pixels, distances = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts], dim=1)
        weights = (probability / probability.clamp_min(0).sum().clamp_min(1)).index_select(0, pixels)
        weights[: len(background)] = self.background_weight / max(len(background), 1)
        # Few pixels are compared, and only they are brought to full precision.
        height, width = labels.shape[-2:]
        row, column = pixels // width, pixels % width
        predicted = output[row // height, :, row % height, column].float()
        return ((predicted - distances.T).abs().mean(dim=1) * weights).sum()

    def maps(self, output: Tensor) -> Tensor:
        """Turns output (B, 1 + R, h, w) into the object probability and the distances, px, not negative."""
        output = output.detach().float()
        return torch.cat([output[:, :1].sigmoid(), output[:, 1:].clamp_min(0)], dim=1)
