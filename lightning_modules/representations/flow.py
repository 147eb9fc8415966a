"""Flow: which way to the centre of the object? Pixels that arrive at the same place belong together."""

import math
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lightning_modules.instances import Instances
from lightning_modules.losses import BinaryCrossEntropy
from lightning_modules.representations.foreground import scored_instances
from lightning_modules.representations.packing import Strip, pack
from lightning_modules.representations.protocol import Representation, resize_maps
from lightning_modules.representations.threads import one_thread
from lightning_modules.symmetry import turn_back

SCALE = 5.0  # the network says five times the flow, so that flow and foreground weigh about the same in the loss
FLAT = 1e-4  # relative rise of heat a px, too small to be told from rounding
STRIDE = 16  # steps that are followed closely, before the rest of the way is looked up at the pixel that is reached


def encode(labels: Tensor) -> Tensor:
    """Finds the way to the centre of the object that each pixel belongs to.

    Heat flows from the object's centre, the pixel nearest to its centre of mass, to all of its pixels and vanishes
    outside; the way is the direction in which it rises. Cellpose does the same, except that here heat never mixes with
    that of an object that touches, and that it flows for as many steps as twice the longest side among the objects of
    similar size. On nuclei the mean angle between the two is about one degree.

    All is torch on the labels' device, for all objects at once.

    Args:
        labels: int64 (B, H, W), 0 is background, ids without large gaps.

    Returns:
        float32 (B, 3, H, W): the way down and to the right, a unit vector or 0 where there is no way to go, and the
        foreground, 0 or 1.

    Source: Stringer et al. 2021, "Cellpose: a generalist algorithm for cellular segmentation", methods.

    >>> encode(torch.tensor([[[0, 1, 1, 1, 2]]]))[0, :, 0].round() + 0.0
    tensor([[ 0.,  0.,  0.,  0.,  0.],
            [ 0.,  1.,  0., -1.,  0.],
            [ 0.,  1.,  1.,  1.,  1.]])
    """
    targets = torch.zeros(3, labels.numel(), device=labels.device)
    targets[2] = labels.flatten() > 0
    with one_thread():
        for strip in pack(labels):
            targets[:2, strip.pixels] = _ways(strip)
    return targets.view(3, *labels.shape).transpose(0, 1)


def _ways(strip: Strip) -> Tensor:
    """Unit vectors (2, n) of a strip's pixels, down and to the right."""
    row, column = strip.cells // strip.columns, strip.cells % strip.columns
    area = torch.bincount(strip.objects).clamp_min(1)
    # Sums of whole numbers are exact in double precision, so that a turned image has the same centres.
    down, right = (
        ((torch.bincount(strip.objects, weights=place.double()) / area)[strip.objects] - place).float()
        for place in (row, column)
    )
    distance = down.square() + right.square()
    nearest = torch.full_like(area, torch.inf, dtype=torch.float32)
    nearest.scatter_reduce_(0, strip.objects, distance, "amin")
    # Several pixels may be equally near: heat flows from all of them, whichever way the image is turned.
    heat = _diffuse(strip, strip.cells[distance <= nearest[strip.objects] + 1e-4])
    above, below, before, after, here = (
        heat[strip.cells + shift + strip.columns + 1] for shift in (-strip.columns, strip.columns, -1, 1, 0)
    )
    # Relative to the heat here, which may be very small far from the centre.
    way = torch.stack([below - above, after - before]) / here.clamp_min(torch.finfo(torch.float32).tiny)
    # No heat comes to a fragment of the object that lies apart, or to the end of a long spiral: straight on.
    way = torch.where(here > 0, way, torch.stack([down, right]))
    return way / way.norm(dim=0).clamp_min(FLAT)


def _diffuse(strip: Strip, sources: Tensor) -> Tensor:
    """Heat in a strip with a frame of a row and a cell on either side, flat; 0 outside the objects."""
    cells, columns = strip.rows * strip.columns, strip.columns
    heat = torch.zeros(cells + 2 * columns + 2, device=sources.device)
    inside, three = heat[columns + 1 : -columns - 1], torch.empty(cells + 2 * columns, device=sources.device)
    share = torch.zeros(cells, device=sources.device)
    share[strip.cells] = 1 / 9
    supply = torch.zeros(cells, device=sources.device)
    supply[sources] = 1
    for _ in range(2 * strip.side):
        inside += supply
        # The mean of the nine pixels around, first the sums of three in a row, then three of these.
        torch.add(heat[:-2], heat[1:-1], out=three)
        three += heat[2:]
        torch.add(three[:cells], three[columns:-columns], out=inside)
        inside += three[2 * columns :]
        inside *= share
    return heat


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
        target = encode(labels)
        error = functional.mse_loss(output[:, :2].float(), SCALE * target[:, :2])
        loss: Tensor = self._foreground_loss(output[:, 2], target[:, 2])
        return loss + self.flow_weight * error

    def maps(self, output: Tensor) -> Tensor:
        """Turns output (B, 3, h, w) into ways, about 1 px long, and the foreground's probability."""
        output = output.detach().float()
        return torch.cat([output[:, :2] / SCALE, output[:, 2:].sigmoid()], dim=1)

    def turn_back(self, maps: Tensor, turns: int, flipped: bool) -> Tensor:
        down, right, probability = turn_back(maps, turns, flipped).unbind(-3)
        for _ in range(turns % 4):
            down, right = right, -down
        return torch.stack([down, -right if flipped else right, probability], dim=-3)

    def resize(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Brings maps (3, h, w) to (3, H, W): ways keep their length, 1 px, but follow a change of proportions."""
        resized = resize_maps(maps, size)
        factors = maps.new_tensor([size[0] / maps.shape[-2], size[1] / maps.shape[-1]])[:, None, None]
        stretched = resized[:2] * factors
        length, new_length = resized[:2].norm(dim=0), stretched.norm(dim=0)
        return torch.cat([stretched * (length / new_length.clamp_min(1e-6)), resized[2:]])


@dataclass
class FlowDecoder:
    """Follows the flow from every pixel of the foreground; those that arrive at the same place are an object.

    An object's score is its mean probability.

    Attributes:
        threshold: pixels of at least this probability are foreground.
        max_flow_error: objects are dropped if the mean squared difference of the predicted ways from those of the
            decoded object is greater; 0 keeps all.
        min_ends: a pixel is a place to arrive at if at least so many paths end there.
        min_area: smaller objects are dropped, px.
        steps: of 1 px at most, at least so many are followed.
        dilation: by how much objects are grown at the end, px; they never run into each other.
    """

    threshold: float = 0.5
    max_flow_error: float = 0.4
    min_ends: int = 3
    min_area: int = 10
    steps: int = 200
    dilation: int = 0
    knobs: ClassVar[dict[str, tuple[float, ...]]] = {
        "threshold": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        "max_flow_error": (0, 0.2, 0.4, 0.6, 0.8, 1.2),
        "min_ends": (1, 2, 3, 5),
        "min_area": (0, 10, 20, 40, 80),
        "dilation": (0, 1, 2),
    }

    def __call__(self, maps: Tensor) -> Instances:
        flow, probability = maps[:2].cpu().numpy(), self.probability(maps).numpy()
        inside = probability >= self.threshold
        labels = gather(follow(np.where(inside, flow, 0), self.steps), inside, self.min_ends)
        if self.max_flow_error:
            labels[flow_errors(labels, maps[:2].cpu())[labels] > self.max_flow_error] = 0
        return scored_instances(labels, probability, self.min_area, self.dilation)

    def probability(self, maps: Tensor) -> Tensor:
        return maps[2].cpu()


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
        min_ends: where fewer paths end, it is no place, and their pixels become background.

    Returns:
        int32 (H, W): 0 is background, ids from 1.

    >>> gather(np.array([[1, 1, 1, 3, 5, 5]]), np.array([[True, True, True, False, True, True]]))
    array([[1, 1, 1, 0, 2, 2]], dtype=int32)
    """
    reached = np.bincount(end[inside], minlength=end.size).reshape(end.shape) >= min_ends
    _, places = cv2.connectedComponents(cv2.dilate(reached.astype(np.uint8), np.ones((3, 3), np.uint8)), connectivity=8)
    return np.where(inside, places.ravel()[end], 0)


def flow_errors(labels: NDArray[np.int32], flow: Tensor) -> NDArray[np.float64]:
    """Mean squared difference of a flow (2, H, W) from that of each object, and of the background."""
    true = encode(torch.from_numpy(labels.astype(np.int64))[None])[0, :2]
    error = (true - flow).square().sum(dim=0).numpy()
    return np.bincount(labels.ravel(), error.ravel()) / np.maximum(np.bincount(labels.ravel()), 1)
