import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.detection.roi_heads import expand_boxes, paste_masks_in_image

from karyon.detection.pasting import paste_masks
from karyon.instances import Instances

SIZE = 60, 80


def paste(
    boxes: object, masks: Tensor, scores: object = None, size: tuple[int, int] = SIZE, threshold: float = 0.5, area=0
) -> Instances:
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    scores = torch.ones(len(boxes)) if scores is None else torch.as_tensor(scores)
    return paste_masks(boxes, scores, masks, size, threshold, area)


def snapped(boxes: Tensor, cells: int) -> Tensor:
    """The boxes that torchvision pastes into in place of the given ones: with whole pixels a cell beyond each edge."""
    grown = expand_boxes(boxes, (cells + 2) / cells).long().float()
    low, high = grown[:, :2], grown[:, 2:] + 1
    cell = (high - low) / (cells + 2)
    return torch.cat([low + cell, high - cell], dim=1)


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([7, 14, 28]), st.sampled_from([0.3, 0.5, 0.8]))
def test_single_objects_are_torchvisions(seed: int, cells: int, threshold: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    # At least partly inside: torchvision crashes on the others.
    low = torch.rand(1, 2, generator=generator) * torch.tensor([80.0, 60.0]) - 5
    boxes = torch.cat([low, low + 8 + 50 * torch.rand(1, 2, generator=generator)], dim=1)
    masks = torch.rand(1, cells, cells, generator=generator)
    probability = paste_masks_in_image(masks[:, None], boxes, SIZE)[0, 0].numpy()
    ours = paste(snapped(boxes, cells), masks, threshold=threshold).labels > 0
    # Up to rounding at the threshold.
    unsure = np.abs(probability - threshold) < 1e-4
    assert np.array_equal(ours | unsure, (probability >= threshold) | unsure)


def test_torchvisions_whole_pixels_move_an_outline_by_less_than_two() -> None:
    y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    masks = (1.5 - ((y - 13.5) ** 2 + (x - 13.5) ** 2).sqrt() / 14)[None].clamp(0, 1)
    boxes = torch.tensor([[10.4, 8.7, 41.2, 36.1]])
    ours = paste(boxes, masks).labels > 0
    theirs = paste_masks_in_image(masks[:, None], boxes, SIZE)[0, 0].numpy() >= 0.5
    # Of 27 to 31 px across.
    assert np.abs(np.ptp(np.argwhere(ours), axis=0) - np.ptp(np.argwhere(theirs), axis=0)).max() <= 2
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.9


@given(st.integers(0, 10**6), st.integers(-3, 12), st.integers(-3, 12))
def test_a_mask_of_its_boxs_size_is_pasted_as_it_is(seed: int, x: int, y: int) -> None:
    mask = torch.rand(6, 6, generator=torch.Generator().manual_seed(seed)) < 0.5
    padded = np.zeros((26, 26), bool)
    padded[y + 6 : y + 12, x + 6 : x + 12] = mask
    found = paste([x, y, x + 6, y + 6], mask[None].float(), size=(14, 14))
    assert np.array_equal(found.labels > 0, padded[6:20, 6:20])


def test_of_overlapping_objects_score_times_probability_decides_each_pixel() -> None:
    masks = torch.stack([torch.full((4, 4), 0.6), torch.linspace(0.55, 1, 4).expand(4, 4)])
    found = paste([[0, 0, 4, 4]] * 2, masks, [0.9, 0.7], size=(4, 4))
    expected = 1 + (0.7 * masks[1] > 0.9 * masks[0]).numpy()
    assert np.array_equal(found.labels, expected) and set(np.unique(expected)) == {1, 2}
    assert found.scores == pytest.approx([0.9, 0.7])


def test_an_object_below_the_threshold_leaves_the_pixel_to_a_less_likely_one_above_it() -> None:
    masks = torch.stack([torch.full((2, 2), 0.4), torch.full((2, 2), 0.6)])
    found = paste([[0, 0, 2, 2]] * 2, masks, [1.0, 0.1], size=(2, 2))
    assert found.labels.tolist() == [[1, 1], [1, 1]] and found.scores == pytest.approx([0.1])


def test_small_and_hidden_objects_are_dropped_and_the_others_numbered_without_gaps() -> None:
    boxes = [[0, 0, 3, 3], [1, 1, 2, 2], [4, 0, 6, 1], [0, 4, 5, 6]]
    found = paste(boxes, torch.ones(4, 8, 8), [0.9, 0.5, 0.8, 0.7], size=(8, 8), area=3)
    assert found.scores == pytest.approx([0.9, 0.7])
    assert found.boxes.tolist() == [[0, 0, 3, 3], [0, 4, 5, 6]]
    assert np.bincount(found.labels.ravel())[1:].tolist() == [9, 10]


@pytest.mark.parametrize("box", [[3, 3, 3, 9], [3, 3, 1, 9], [20, 0, 30, 5], [-9, -9, -1, -1], []])
def test_boxes_without_a_pixel_of_the_image_give_nothing(box: list[float]) -> None:
    found = paste(box, torch.ones(len(box) // 4, 4, 4), size=(10, 10))
    assert len(found) == 0 and found.labels.max() == 0
    assert found.labels.shape == (10, 10) and found.boxes.shape == (0, 4)


def test_many_objects_are_not_held_as_as_many_images() -> None:
    largest = 0

    class Watcher(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                largest = max(largest, result.numel())
            return result

    y, x = np.divmod(np.arange(500), 25)
    corners = np.stack([x * 20, y * 25], axis=1)
    with Watcher():
        found = paste(np.concatenate([corners, corners + 18], axis=1), torch.ones(500, 28, 28), size=(512, 512))
    assert len(found) == 500 and largest <= 500 * 28 * 28


def test_the_precision_of_a_trainer_changes_nothing() -> None:
    boxes = [[3.2, 4.1, 21.7, 17.3], [15.0, 2.0, 40.0, 30.0]]
    masks = torch.rand(2, 28, 28, generator=torch.Generator().manual_seed(0))
    full = paste(boxes, masks, [0.9, 0.8])
    with torch.autocast("cpu", torch.bfloat16):
        mixed = paste(boxes, masks, [0.9, 0.8])
    assert np.array_equal(full.labels, mixed.labels) and len(full) == 2
