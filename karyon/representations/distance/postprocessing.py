"""From foreground and distance to the boundary to objects: a watershed from the hilltops."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from karyon.instances import Instances
from karyon.representations.foreground.postprocessing import scored_instances, seeded_watershed
from karyon.representations.protocol import Maps, Postprocessing


@dataclass
class DistancePostprocessing(Postprocessing):
    """A watershed from the hilltops over all of the foreground; an object's score is its mean probability.

    Attributes:
        threshold: pixels of at least this probability are foreground.
        seed_threshold: 8-connected components of at least this distance become an object each; a low value keeps
            objects with a waist in one piece, a high one parts objects across a shallow valley.
        min_seed_area: smaller seeds are dropped, px.
        min_area: smaller objects are dropped, px.
        dilation: by how much objects are grown at the end, px; they never run into each other.
    """

    threshold: float = 0.5
    seed_threshold: float = 0.5
    min_seed_area: int = 3
    min_area: int = 10
    dilation: int = 0
    choices: ClassVar[dict[str, tuple[float, ...]]] = {
        "threshold": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        "seed_threshold": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        "min_seed_area": (1, 3, 5, 10),
        "min_area": (0, 10, 20, 40, 80),
        "dilation": (0, 1, 2),
    }

    def __call__(self, maps: Maps) -> Instances:
        probability, distance = maps
        mask = probability >= self.threshold
        labels = seeded_watershed(distance, mask, self.seed_threshold, self.min_seed_area, connectivity=2)
        return scored_instances(labels, probability, self.min_area, self.dilation)

    def probability(self, maps: Maps) -> NDArray[np.float32]:
        return maps[0]
