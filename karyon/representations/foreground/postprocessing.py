"""From the foreground's probability to objects: connected components, or a watershed from sure places."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from karyon.instances import Instances
from karyon.representations.protocol import Maps, Postprocessing, expand


@dataclass
class ForegroundPostprocessing(Postprocessing):
    """Threshold, then 8-connected components; an object's score is its mean probability.

    Attributes:
        threshold: pixels of at least this probability are foreground.
        min_area: smaller objects are dropped, px.
        dilation: by how much objects are grown at the end, px; they never run into each other.
    """

    threshold: float = 0.5
    min_area: int = 10
    dilation: int = 0
    choices: ClassVar[dict[str, tuple[float, ...]]] = {
        "threshold": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        "min_area": (0, 10, 20, 40, 80),
        "dilation": (0, 1, 2),
    }

    def __call__(self, maps: Maps) -> Instances:
        probability = self.probability(maps)
        from scipy import ndimage

        labels, _ = ndimage.label(probability >= self.threshold, structure=np.ones((3, 3)))
        return scored_instances(labels, probability, self.min_area, self.dilation)

    def probability(self, maps: Maps) -> NDArray[np.float32]:
        return maps[0]


@dataclass
class WatershedPostprocessing(Postprocessing):
    """4-connected components of high probability, grown by a watershed to all of the foreground.

    Made for the cells between membranes: a gap in a membrane merges two cells of the foreground, but seldom two
    components of a higher threshold. The score of an object is its mean probability.

    Attributes:
        threshold: pixels of at least this probability are foreground.
        seed_threshold: components of at least this probability become an object each; below ``threshold`` it has no
            effect, and what holds no seed is dropped.
        min_area: smaller objects are dropped, px.
        dilation: by how much objects are grown at the end, px; they never run into each other.
    """

    threshold: float = 0.5
    seed_threshold: float = 0.5
    min_area: int = 1
    dilation: int = 0
    choices: ClassVar[dict[str, tuple[float, ...]]] = {
        "threshold": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        "seed_threshold": (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98),
        "min_area": (1, 10, 30, 100, 300),
        "dilation": (0, 1, 2),
    }

    def __call__(self, maps: Maps) -> Instances:
        probability = self.probability(maps)
        labels = seeded_watershed(probability, probability >= self.threshold, self.seed_threshold)
        return scored_instances(labels, probability, self.min_area, self.dilation)

    def probability(self, maps: Maps) -> NDArray[np.float32]:
        return maps[0]


def seeded_watershed(
    height: NDArray[np.float32],
    mask: NDArray[np.bool_],
    seed_threshold: float,
    min_seed_area: int = 1,
    connectivity: Literal[1, 2] = 1,
) -> NDArray[Any]:
    """Grows the components of great height downhill, until they meet or fill the mask.

    Args:
        height: float (H, W).
        mask: bool (H, W); what holds no seed is left out.
        seed_threshold: seeds are the components of the mask of at least this height.
        min_seed_area: smaller seeds are dropped, px.
        connectivity: 2 if objects hold together, and grow, across the corners of pixels too; 1 if their edges alone
            count, as it must be between membranes that are one pixel wide.

    Returns:
        int32 (H, W): 0 is background, ids from 1, with gaps where seeds were dropped.

    >>> height = np.array([[5, 3, 1, 2, 4, 0]], np.float32)
    >>> seeded_watershed(height, height > 0, seed_threshold=4)
    array([[1, 1, 1, 2, 2, 0]], dtype=int32)
    """
    from scipy import ndimage

    seeds, _ = ndimage.label(mask & (height >= seed_threshold), ndimage.generate_binary_structure(2, connectivity))
    if min_seed_area > 1:
        seeds[(np.bincount(seeds.ravel()) < min_seed_area)[seeds]] = 0
    # Where the seeds fill the mask there is nothing to grow, and a watershed takes thirty times as long as they do.
    if np.array_equal(seeds > 0, mask):
        return seeds
    # Its import costs more than a small image.
    from skimage.segmentation import watershed

    return watershed(-height, seeds, connectivity, mask=mask)


def scored_instances(
    labels: NDArray[Any], probability: NDArray[np.float32], min_area: int, dilation: int = 0
) -> Instances:
    """Drops small objects, renumbers and grows the others, and scores each by its mean probability.

    Args:
        labels: integers (H, W), 0 is background, ids from 1 with or without gaps.
        probability: float (H, W) in [0, 1].
        min_area: smaller objects are dropped, px.
        dilation: what is that near to an object becomes part of the nearest one, px.
    """
    keep = np.bincount(labels.ravel()) >= max(min_area, 1)
    keep[0] = False
    labels = np.where(keep, np.cumsum(keep), 0)[labels]
    labels = expand(labels, dilation)
    area = np.bincount(labels.ravel(), minlength=keep.sum() + 1)[1:]
    total = np.bincount(labels.ravel(), probability.ravel(), minlength=keep.sum() + 1)[1:]
    return Instances.from_labels(labels, total / area)
