"""From an object probability and star distances to objects: polygons and non-maximum suppression."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from karyon.inference.rotations import turn_back
from karyon.instances import Instances
from karyon.labels import new_ids
from karyon.representations.protocol import Maps, Postprocessing, expand, resize_maps
from karyon.representations.star.polygons import SHORTEST, draw, highest, suppress

LONGEST = 500.0  # px; what an untrained network says of distances must not cost gigabytes
CORE = 0.25  # of the way from a centre to the boundary: a better centre as near as that is one of the same object
NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


def directions(rays: int) -> list[tuple[float, float]]:
    """Unit vectors (down, right) of rays at equal angles; the first points right, the next ones further down.

    >>> [(round(dy), round(dx)) for dy, dx in directions(4)]
    [(0, 1), (1, 0), (0, -1), (-1, 0)]
    """
    angles = [2 * math.pi * ray / rays for ray in range(rays)]
    return [(math.sin(angle), math.cos(angle)) for angle in angles]


@dataclass
class StarPostprocessing(Postprocessing):
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
    choices: ClassVar[dict[str, tuple[float, ...]]] = {
        "threshold": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        "nms": (0.2, 0.3, 0.4, 0.5, 0.6),
        "min_area": (0, 10, 20, 40, 80),
        "dilation": (0, 1, 2),
    }

    def __call__(self, maps: Maps) -> Instances:
        probability, distances = maps[0], maps[1:]
        points, polygons = candidates(probability, distances, self.threshold)
        kept = suppress(points, polygons, self.nms)
        points, polygons = points[kept], polygons[kept]
        labels = draw(points, polygons, probability.shape)
        visible = np.bincount(labels.ravel(), minlength=len(kept) + 1)[1:] >= max(self.min_area, 1)
        scores = probability[points[visible, 0], points[visible, 1]]
        return Instances.from_labels(expand(new_ids(visible)[labels], self.dilation), scores)

    def probability(self, maps: Maps) -> NDArray[np.float32]:
        """The object probability; towards the boundary it is lower than that of the foreground, which is not known."""
        return maps[0]

    def turn_back(self, maps: Maps, turns: int, flipped: bool) -> Maps:
        maps = turn_back(maps, turns, flipped)
        probability, distances = maps[..., :1, :, :], maps[..., 1:, :, :]
        rays = distances.shape[-3]
        # Turned counterclockwise, what lay in a ray's direction lies a quarter of the rays earlier for each turn.
        distances = np.roll(distances, turns * rays // 4, axis=-3)
        if flipped:
            distances = np.roll(np.flip(distances, -3), rays // 2 + 1, axis=-3)
        return np.concatenate([probability, distances], axis=-3)

    def resize(self, maps: Maps, size: tuple[int, int]) -> Maps:
        """Brings maps (1 + R, h, w) to (1 + R, H, W); the distances, px, grow with the image.

        Where height and width grow by different factors, directions change too: along each ray the edge of the resized
        polygon is found, between two of the old rays.
        """
        down, across = size[0] / maps.shape[-2], size[1] / maps.shape[-1]
        resized = resize_maps(maps, size)
        probability, distances = resized[:1], resized[1:]
        if down == across:
            return np.concatenate([probability, distances * np.float32(down)])
        rays = len(distances)
        edges = [probability[0]]
        sector = 2 * math.pi / rays
        for dy, dx in directions(rays):
            # A point at a distance of 1 px along the new ray was at this place along the old ones.
            ray, angle = divmod(math.atan2(dy / down, dx / across) % (2 * math.pi), sector)
            length = math.hypot(dy / down, dx / across) / math.sin(sector)
            before, after = (np.maximum(distances[int(ray + k) % rays], SHORTEST) for k in (0, 1))
            edges.append(1 / (length * (math.sin(sector - angle) / before + math.sin(angle) / after)))
        return np.stack(edges).astype(np.float32)


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
