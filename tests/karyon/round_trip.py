"""What the tests of every representation share: label images, their maps, and how much of them comes back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit, logit
from torch import Tensor
from torch.nn import functional

from datamodules.drawing import draw_nuclei
from datamodules.dsb2018 import DSB2018DataModule
from karyon.losses import BinaryCrossEntropy
from karyon.metrics.matching import match_instances
from karyon.representations.border import loss as border
from karyon.representations.border.postprocessing import BorderPostprocessing
from karyon.representations.distance import loss as distance
from karyon.representations.distance.postprocessing import DistancePostprocessing
from karyon.representations.flow.loss import SCALE, Flow
from karyon.representations.flow.postprocessing import FlowPostprocessing
from karyon.representations.flow.ways import encode as encode_ways
from karyon.representations.foreground.loss import Foreground
from karyon.representations.foreground.postprocessing import ForegroundPostprocessing, WatershedPostprocessing
from karyon.representations.protocol import Maps, Representation
from karyon.representations.star import loss as star
from karyon.representations.star.postprocessing import StarPostprocessing

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Method:
    """A representation with its post-processing, and what a network would say that is sure of it.

    Attributes:
        output: the network's output (B, K, H, W) for label images (B, H, W).
        smallest: arguments that keep objects of one pixel.
        touching: whether objects that touch are told apart.
        exact: whether objects come back pixel by pixel; polygons are round.
    """

    representation: Representation
    postprocessing: Callable[..., Any]
    output: Callable[[Tensor], Tensor]
    smallest: dict[str, int]
    touching: bool = True
    exact: bool = True

    def maps(self, labels: Labels) -> Maps:
        """Maps (K, H, W) of a label image (H, W), or (B, K, H, W) of several."""
        images = torch.from_numpy(np.ascontiguousarray(labels))
        maps = self.representation.maps(self.output(images if labels.ndim == 3 else images[None])).numpy()
        return maps if labels.ndim == 3 else maps[0]

    def finder(self) -> Any:
        return self.postprocessing(**self.smallest)


def sure(labels: Tensor) -> Tensor:
    return ((labels > 0) * 40.0 - 20)[:, None]


def ways(labels: Tensor) -> Tensor:
    target = encode_ways(labels)
    return torch.cat([SCALE * target[:, :2], sure(labels)], 1)


def polygons(labels: Tensor, rays: int = 32) -> Tensor:
    target = star.encode(labels, rays)
    return torch.cat([target[:, :1].logit(eps=1e-7), target[:, 1:]], 1)


FOREGROUND = Foreground(BinaryCrossEntropy())
METHODS = {
    "foreground": Method(FOREGROUND, ForegroundPostprocessing, sure, {"min_area": 1}, touching=False),
    "watershed": Method(FOREGROUND, WatershedPostprocessing, sure, {"min_area": 1}, touching=False),
    "border": Method(
        border.Border(),
        BorderPostprocessing,
        lambda labels: 40 * functional.one_hot(border.encode(labels), 3).movedim(-1, 1).float(),
        {"min_area": 1, "min_seed_area": 1},
    ),
    "distance": Method(
        distance.Distance(),
        DistancePostprocessing,
        lambda labels: torch.cat([sure(labels), distance.encode(labels)[:, None]], 1),
        {"min_area": 1, "min_seed_area": 1},
    ),
    "star": Method(star.Star(), StarPostprocessing, polygons, {"min_area": 1}, exact=False),
    "flow": Method(Flow(), FlowPostprocessing, ways, {"min_area": 1, "min_ends": 1}),
}

any_labels = hnp.arrays(np.int64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 4))
"""Small label images (H, W) without any order: specks, holes, objects in several pieces."""


@st.composite
def separate_ellipses(draw: st.DrawFn) -> Labels:
    """Ellipses (48, 80), each in a cell of 16 px of its own, at least 2 px apart; there may be none."""
    labels = np.zeros((48, 80), np.int64)
    rows, columns = np.mgrid[:48, :80]
    for number, wanted in enumerate(draw(st.lists(st.booleans(), min_size=15, max_size=15))):
        if wanted:
            y, x = (16 * cell + 8 + draw(st.integers(-1, 1)) for cell in divmod(number, 5))
            a, b, angle = draw(st.floats(2, 6)), draw(st.floats(2, 6)), draw(st.floats(0, np.pi))
            along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
            across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
            labels[(along / a) ** 2 + (across / b) ** 2 <= 1] = number + 1
    return labels


def nuclei(count: int = 2, size: int = 64) -> Labels:
    """Drawn nuclei, many of them touching, (count, size, size)."""
    rng = np.random.default_rng(3)
    return np.stack([draw_nuclei(rng, (size, size), "fluorescence")[1].astype(np.int64) for _ in range(count)])


def touching_discs() -> Labels:
    """Five discs in a row, cut off where they meet, and one that the image's edge cuts, (40, 96)."""
    labels = np.zeros((40, 96), np.int64)
    rows, columns = np.mgrid[:40, :96]
    for number, (y, x) in enumerate([(20, 12), (20, 27), (22, 42), (18, 57), (20, 72), (0, 85)], start=1):
        labels[((rows - y) ** 2 + (columns - x) ** 2 <= 81) & (labels == 0)] = number
    return labels


def uncertain(method: str, labels: Labels, noise: float, blur: float = 0) -> Maps:
    """Maps as uncertain as a network's, of ``star`` or ``flow``."""
    rough = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(33, *labels.shape)), (0, 2, 2))
    rough *= noise / rough.std()
    maps = METHODS[method].maps(labels)
    if method == "flow":
        maps[:2] = ndimage.gaussian_filter(maps[:2], (0, blur, blur)) + rough[:2]
    else:
        maps[0] = expit(logit(maps[0].clip(0.02, 0.98)) + 4 * rough[0])
        maps[1:] *= np.exp(rough[1:])
    return maps


def mean_iou(true: Labels, pred: Any) -> float:
    """Of all true objects; one that no predicted object covers to more than half counts as 0."""
    matching = match_instances(true, pred)
    return float(matching.ious.sum() / matching.n_true)


def same_objects(true: Labels, pred: Any) -> bool:
    """Whether two label images differ in the ids alone."""
    matching = match_instances(true, pred)
    return bool(matching.n_true == matching.n_pred == matching.ious.sum())


def agreement(true: Any, pred: Any) -> tuple[int, int]:
    """How many objects of two label images have an IoU above .9, and of how many."""
    matching = match_instances(true, pred)
    return int(matching.tp[8]), max(matching.n_true, matching.n_pred)


def real_labels(root: Path, cache_dir: Path, every: int) -> list[Labels]:
    """Label images of the training set."""
    cache = DSB2018DataModule(root=root, cache_dir=cache_dir).train_cache()
    return [cache.read_labels(record).astype(np.int64) for record in cache.records[::every]]
