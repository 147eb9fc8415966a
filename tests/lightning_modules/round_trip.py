"""What the tests of every representation share: label images, and how much of them comes back."""

from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from datamodules.drawing import draw_nuclei
from datamodules.dsb2018 import DSB2018DataModule
from lightning_modules.metrics import match_instances

any_labels = hnp.arrays(np.int64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 4)).map(
    torch.from_numpy
)
"""Small label images (H, W) without any order: specks, holes, objects in several pieces."""


@st.composite
def separate_ellipses(draw: st.DrawFn) -> Tensor:
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
    return torch.from_numpy(labels)


def nuclei(count: int = 2, size: int = 64) -> Tensor:
    """Drawn nuclei, many of them touching, int64 (count, size, size)."""
    rng = np.random.default_rng(3)
    images = [draw_nuclei(rng, (size, size), "fluorescence")[1] for _ in range(count)]
    return torch.from_numpy(np.stack(images).astype(np.int64))


def touching_discs() -> Tensor:
    """Five discs in a row, cut off where they meet, and one that the image's edge cuts, int64 (40, 96)."""
    labels = torch.zeros(40, 96, dtype=torch.int64)
    rows, columns = torch.meshgrid(torch.arange(40), torch.arange(96), indexing="ij")
    for number, (y, x) in enumerate([(20, 12), (20, 27), (22, 42), (18, 57), (20, 72), (0, 85)], start=1):
        labels[((rows - y) ** 2 + (columns - x) ** 2 <= 81) & (labels == 0)] = number
    return labels


def mean_iou(true: Tensor, pred: Tensor) -> float:
    """Of all true objects; one that no predicted object covers to more than half counts as 0."""
    matching = match_instances(true, pred)
    return float(matching.ious.sum() / matching.n_true)


def same_objects(true: Tensor, pred: Tensor) -> bool:
    """Whether two label images differ in the ids alone."""
    matching = match_instances(true, pred)
    return matching.n_true == matching.n_pred == matching.ious.sum()


def real_labels(root: Path, cache_dir: Path, every: int) -> list[Tensor]:
    """Label images of the training set, int64 (H, W)."""
    cache = DSB2018DataModule(root=root, cache_dir=cache_dir).train_cache()
    return [torch.from_numpy(cache.read_labels(record)).long() for record in cache.records[::every]]
