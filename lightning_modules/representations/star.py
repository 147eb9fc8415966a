"""Star: how central is a pixel in its object, and how far is the object's boundary in each direction?"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.segmentation import expand_labels
from torch import Tensor

from datamodules.sample import DataError
from lightning_modules.instances import Instances
from lightning_modules.losses import BinaryCrossEntropy
from lightning_modules.representations.distance import boundary_distance, object_maximum
from lightning_modules.representations.packing import Strip, pack
from lightning_modules.representations.polygons import SHORTEST, draw, highest, suppress
from lightning_modules.representations.protocol import Representation, resize_maps
from lightning_modules.representations.threads import one_thread
from lightning_modules.symmetry import turn_back

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
    # The nearest pixel's centre is half a pixel, or a little more, behind the boundary.
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


def directions(rays: int) -> list[tuple[float, float]]:
    """Unit vectors (down, right) of rays at equal angles; the first points right, the next ones further down.

    >>> [(round(dy), round(dx)) for dy, dx in directions(4)]
    [(0, 1), (1, 0), (0, -1), (-1, 0)]
    """
    angles = [2 * math.pi * ray / rays for ray in range(rays)]
    return [(math.sin(angle), math.cos(angle)) for angle in angles]


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
        DataError: the number of rays is no multiple of 4.

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
        probability = object_probability(labels)
        loss: Tensor = self._probability_loss(output[:, 0], probability)
        return loss + self.distance_weight * self._distance_error(output[:, 1:], labels, probability)

    def _distance_error(self, output: Tensor, labels: Tensor, probability: Tensor) -> Tensor:
        """Weighted mean absolute error of distances (B, R, H, W), px."""
        probability = probability.flatten()
        background = (probability == 0).nonzero()[::SPARSE, 0]
        parts = [(background, output.new_zeros(self.rays, len(background))), *ray_distances(labels, self.rays)]
        pixels, distances = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts], dim=1)
        weights = (probability / probability.sum().clamp_min(1)).index_select(0, pixels)
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

    def turn_back(self, maps: Tensor, turns: int, flipped: bool) -> Tensor:
        probability, distances = turn_back(maps, turns, flipped).split([1, self.rays], dim=-3)
        # Turned counterclockwise, what lay in a ray's direction lies a quarter of the rays earlier for each turn.
        distances = distances.roll(turns * self.rays // 4, dims=-3)
        if flipped:
            distances = distances.flip(-3).roll(self.rays // 2 + 1, dims=-3)
        return torch.cat([probability, distances], dim=-3)

    def resize(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Brings maps (1 + R, h, w) to (1 + R, H, W); the distances, px, grow with the image.

        Where height and width grow by different factors, directions change too: along each ray the edge of the resized
        polygon is found, between two of the old rays.
        """
        down, across = size[0] / maps.shape[-2], size[1] / maps.shape[-1]
        probability, distances = resize_maps(maps, size).split([1, self.rays])
        if down == across:
            return torch.cat([probability, distances * down])
        resized = [probability[0]]
        sector = 2 * math.pi / self.rays
        for dy, dx in directions(self.rays):
            # A point at a distance of 1 px along the new ray was at this place along the old ones.
            ray, angle = divmod(math.atan2(dy / down, dx / across) % (2 * math.pi), sector)
            length = math.hypot(dy / down, dx / across) / math.sin(sector)
            before, after = (distances[int(ray + k) % self.rays].clamp_min(SHORTEST) for k in (0, 1))
            resized.append(1 / (length * (math.sin(sector - angle) / before + math.sin(angle) / after)))
        return torch.stack(resized)


@dataclass
class StarDecoder:
    """Polygons of the most probable pixels, by greedy non-maximum suppression; an object's score is its probability.

    Candidates are the pixels that none in the core of their own polygon surpasses: such a pixel's polygon is nearly the
    same, and would suppress theirs.

    Attributes:
        threshold: candidates have at least this object probability.
        nms: of two polygons that share more than this fraction of the smaller one's area, the less probable is dropped.
        min_area: smaller objects are dropped, px; what is hidden by better objects does not count.
        dilation: by how much objects are grown at the end, px; they never run into each other.
    """

    threshold: float = 0.5
    nms: float = 0.4
    min_area: int = 10
    dilation: int = 0
    knobs: ClassVar[dict[str, tuple[float, ...]]] = {
        "threshold": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        "nms": (0.2, 0.3, 0.4, 0.5, 0.6),
        "min_area": (0, 10, 20, 40, 80),
        "dilation": (0, 1, 2),
    }

    def __call__(self, maps: Tensor) -> Instances:
        probability, distances = maps[0].cpu().numpy(), maps[1:].cpu().numpy()
        points, polygons = candidates(probability, distances, self.threshold)
        kept = suppress(points, polygons, self.nms)
        points, polygons = points[kept], polygons[kept]
        labels = draw(points, polygons, probability.shape)
        visible = np.bincount(labels.ravel(), minlength=len(kept) + 1)[1:] >= max(self.min_area, 1)
        number = np.concatenate([[0], np.where(visible, np.cumsum(visible), 0)])
        scores = probability[points[visible, 0], points[visible, 1]]
        grown = expand_labels(number[labels], self.dilation) if self.dilation else number[labels]
        return Instances.from_labels(torch.from_numpy(grown), torch.from_numpy(scores))

    def probability(self, maps: Tensor) -> Tensor:
        """The object probability; towards the boundary it is lower than that of the foreground, which is not known."""
        return maps[0].cpu()


def candidates(
    probability: NDArray[np.float32], distances: NDArray[np.float32], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Finds the pixels that no pixel in the core of their own polygon surpasses; of equal neighbours the first counts.

    Args:
        probability: float32 (H, W).
        distances: float32 (R, H, W), px.
        threshold: candidates have at least this probability.

    Returns:
        Rows and columns of the candidates, int64 (n, 2), the most probable first, and their distances, float32 (n, R).

    >>> candidates(np.array([[0.7, 0.8, 0.8, 0.9]], np.float32), np.full((8, 1, 4), 1.5, np.float32), 0.5)[0]
    array([[0, 3],
           [0, 1]])
    """
    framed = np.pad(probability, 1)
    rows, columns = np.nonzero(probability >= threshold)
    # The next neighbours alone leave few, of which the whole core is looked at.
    for dy, dx in NEIGHBOURS:
        ray = round(math.atan2(dy, dx) / (2 * math.pi) * len(distances)) % len(distances)
        neighbour, own = framed[rows + dy + 1, columns + dx + 1], probability[rows, columns]
        surpassed = neighbour > own if (dy, dx) > (0, 0) else neighbour >= own
        keep = ~surpassed | (distances[ray, rows, columns] < math.hypot(dy, dx))
        rows, columns = rows[keep], columns[keep]
    order = np.argsort(-probability[rows, columns], kind="stable")
    points = np.stack([rows[order], columns[order]], axis=1)
    polygons = np.minimum(distances[:, points[:, 0], points[:, 1]].T, LONGEST)
    keep = highest(points, CORE * polygons, probability)
    return points[keep], polygons[keep]
