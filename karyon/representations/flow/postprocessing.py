"""From flows to objects: follow the flow from every pixel; those that arrive at the same place are an object."""

import math
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from karyon.inference.rotations import turn_back
from karyon.instances import Instances, without_crumbs
from karyon.representations.flow.ways import encode
from karyon.representations.foreground.postprocessing import scored_instances
from karyon.representations.protocol import Maps, Postprocessing, resize_maps

STRIDE = 16  # steps that are followed closely, before the rest of the way is looked up at the pixel that is reached


@dataclass
class FlowPostprocessing(Postprocessing):
    """Follows the flow from every pixel of the foreground; those that arrive at the same place are an object.

    An object's score is its mean probability.

    Attributes:
        threshold: pixels of at least this probability are foreground.
        max_flow_error: objects are dropped if the mean squared difference of the predicted ways from those of the
            decoded object is greater; 0 keeps all.
        min_ends: a pixel is a place to arrive at if at least so many paths end there.
        min_area: smaller objects are dropped, px.
        crumb: objects of less than this share of the image's typical area are dropped where their score is below
            ``sure``; 0 keeps all.
        sure: see ``crumb``.
        steps: of 1 px at most, at least so many are followed.
        dilation: by how much objects are grown at the end, px; they never run into each other.
    """

    threshold: float = 0.5
    max_flow_error: float = 0.4
    min_ends: int = 3
    min_area: int = 10
    crumb: float = 0.0
    sure: float = 0.8
    steps: int = 200
    dilation: int = 0
    choices: ClassVar[dict[str, tuple[float, ...]]] = {
        "threshold": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        "max_flow_error": (0, 0.2, 0.4, 0.6, 0.8, 1.2),
        "min_ends": (1, 2, 3, 5),
        "min_area": (0, 10, 20, 40, 80),
        "crumb": (0, 0.2, 0.35, 0.5),
        "dilation": (0, 1, 2),
    }

    def __call__(self, maps: Maps) -> Instances:
        flow, probability = maps[:2], self.probability(maps)
        inside = probability >= self.threshold
        labels = gather(follow(np.where(inside, flow, 0), self.steps), inside, self.min_ends)
        if self.max_flow_error:
            labels[flow_errors(labels, flow)[labels] > self.max_flow_error] = 0
        return scored_instances(labels, probability, self.min_area, self.dilation)

    def probability(self, maps: Maps) -> NDArray[np.float32]:
        return maps[2]

    def whole(self, instances: Instances) -> Instances:
        return without_crumbs(instances, self.crumb, self.sure) if self.crumb else instances

    def turn_back(self, maps: Maps, turns: int, flipped: bool) -> Maps:
        down, right, probability = np.moveaxis(turn_back(maps, turns, flipped), -3, 0)
        for _ in range(turns % 4):
            down, right = right, -down
        return np.stack([down, -right if flipped else right, probability], axis=-3)

    def resize(self, maps: Maps, size: tuple[int, int]) -> Maps:
        """Brings maps (3, h, w) to (3, H, W): ways keep their length, 1 px, but follow a change of proportions."""
        resized = resize_maps(maps, size)
        factors = np.array([size[0] / maps.shape[-2], size[1] / maps.shape[-1]], np.float32)[:, None, None]
        stretched = resized[:2] * factors
        length, new_length = np.linalg.norm(resized[:2], axis=0), np.linalg.norm(stretched, axis=0)
        return np.concatenate([stretched * (length / np.maximum(new_length, 1e-6)), resized[2:]])


def follow(flow: NDArray[np.float32], steps: int) -> NDArray[np.int64]:
    """Follows a flow from every pixel, in steps as long as the flow, which is interpolated between pixels.

    Only the first steps are made from every pixel. They lead to some other pixel, near enough to a place whose way is
    known by then: so the number of steps doubles with each look where a path's end leads on to.

    Args:
        flow: float32 (2, H, W), px a step, down and to the right; 0 where nothing moves.
        steps: at least so many are made.

    Returns:
        int64 (H, W), position in the flattened image where each pixel's path ends.

    >>> follow(np.array([[[0, 0, 0, 0]], [[1, 1, 0, -1]]], np.float32), steps=10)
    array([[2, 2, 2, 2]])
    """
    height, width = flow.shape[1:]
    field = np.ascontiguousarray(np.moveaxis(flow, 0, -1))
    row, column = np.indices((height, width), dtype=np.float32)
    for _ in range(STRIDE):
        step = cv2.remap(field, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        row, column = (row + step[..., 0]).clip(0, height - 1), (column + step[..., 1]).clip(0, width - 1)
    # Positions in a large image are too great for single precision.
    end = np.rint(row).astype(np.int64) * width + np.rint(column).astype(np.int64)
    for _ in range(math.ceil(math.log2(max(steps / STRIDE, 1)))):
        end = end.ravel()[end]
    return end


def gather(end: NDArray[np.int64], inside: NDArray[np.bool_], min_ends: int = 1) -> NDArray[np.int32]:
    """Numbers pixels by the place where their paths end.

    Pixels where paths end are one place if they touch or have one or two pixels between them.

    Args:
        end: int64 (H, W), position in the flattened image where each pixel's path ends.
        inside: bool (H, W), pixels of the foreground.
        min_ends: where fewer paths end, it is not a place, and their pixels become background.

    Returns:
        int32 (H, W): 0 is background, ids from 1.

    >>> gather(np.array([[1, 1, 1, 3, 5, 5]]), np.array([[True, True, True, False, True, True]]))
    array([[1, 1, 1, 0, 2, 2]], dtype=int32)
    """
    reached = np.bincount(end[inside], minlength=end.size).reshape(end.shape) >= min_ends
    _, places = cv2.connectedComponents(cv2.dilate(reached.astype(np.uint8), np.ones((3, 3), np.uint8)), connectivity=8)
    return np.where(inside, places.ravel()[end], 0)


def flow_errors(labels: NDArray[np.int32], flow: Maps) -> NDArray[np.float64]:
    """Mean squared difference of a flow (2, H, W) from that of each object, and of the background."""
    true = encode(labels.astype(np.int64)[None])[0, :2]
    error = np.square(true - flow).sum(axis=0)
    return np.bincount(labels.ravel(), error.ravel()) / np.maximum(np.bincount(labels.ravel()), 1)
