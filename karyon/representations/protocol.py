"""What a representation owes the training, and what its post-processing owes the predictor."""

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from karyon import preprocessing
from karyon.inference.rotations import turn_back
from karyon.instances import Instances

if TYPE_CHECKING:
    from torch import Tensor

Maps = NDArray[np.float32]
"""(K, H, W): what a network says of an image, after its activations."""


class Representation(Protocol):
    """What a dense network learns of a label image."""

    def loss(self, output: "Tensor", labels: "Tensor") -> "Tensor":
        """Compares the network's output (B, K, H, W) with targets derived from label images (B, H, W).

        Where labels are -1 nothing is annotated; `karyon.losses.annotated` leaves those pixels out.
        """
        ...

    def maps(self, output: "Tensor") -> "Tensor":
        """Turns the network's output (B, K, h, w) into float32 maps (B, K', h, w) that can be averaged."""
        ...


class Postprocessing(Protocol):
    """Finds the objects in maps. Its arguments are the parameters of inference: they never enter a checkpoint.

    Attributes:
        choices: of each parameter, the values that `tune` tries.
    """

    choices: ClassVar[dict[str, tuple[float, ...]]]

    def __call__(self, maps: Maps) -> Instances:
        """Finds the objects in maps (K', H, W)."""
        ...

    def probability(self, maps: Maps) -> NDArray[np.float32]:
        """The foreground's probability (H, W) in maps (K', H, W)."""
        ...

    def whole(self, instances: Instances) -> Instances:
        """What is left of an image's objects, once all are found, block by block where it is large."""
        return instances

    def turn_back(self, maps: Maps, turns: int, flipped: bool) -> Maps:
        """Undoes `karyon.inference.rotations.turn` on maps (..., K', H, W) of a turned image.

        Moves the pixels; to be overridden where values depend on the direction.
        """
        return turn_back(maps, turns, flipped)

    def resize(self, maps: Maps, size: tuple[int, int]) -> Maps:
        """Brings one image's maps (K', h, w) to its original size (K', H, W).

        Linearly; to be overridden where values depend on the image's scale.
        """
        return resize_maps(maps, size)


def resize_maps(maps: Maps, size: tuple[int, int]) -> Maps:
    """Resizes maps (K, h, w) to (K, H, W); for values that do not depend on the image's scale."""
    if maps.shape[-2:] == size:
        return maps
    return preprocessing.resize(maps.transpose(1, 2, 0), size).transpose(2, 0, 1)


def expand(labels: NDArray[Any], distance: int) -> NDArray[Any]:
    """Grows objects by a distance, px, until they meet: what is that near to an object joins the nearest one."""
    if not distance:
        return labels
    # Takes longer to import than to run, and seldom is asked for.
    from skimage.segmentation import expand_labels

    return expand_labels(labels, distance)
