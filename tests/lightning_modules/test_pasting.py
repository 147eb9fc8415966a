import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.detection.roi_heads import expand_boxes, paste_masks_in_image

from lightning_modules.pasting import paste_masks

SIZE = 60, 80


def snapped(boxes: torch.Tensor, cells: int) -> torch.Tensor:
    """The boxes that torchvision pastes into in place of the given ones: with whole pixels a cell beyond each edge."""
    grown = expand_boxes(boxes, (cells + 2) / cells).long().float()
    low, high = grown[:, :2], grown[:, 2:] + 1
    cell = (high - low) / (cells + 2)
    return torch.cat([low + cell, high - cell], dim=1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([7, 14, 28]), st.sampled_from([0.3, 0.5, 0.8]))
def test_single_objects_are_torchvisions(seed: int, cells: int, threshold: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    # At least partly inside: torchvision crashes on the others.
    low = torch.rand(1, 2, generator=generator) * torch.tensor([80.0, 60.0]) - 5
    boxes = torch.cat([low, low + 8 + 50 * torch.rand(1, 2, generator=generator)], dim=1)
    masks = torch.rand(1, cells, cells, generator=generator)
    probability = paste_masks_in_image(masks[:, None], boxes, SIZE)[0, 0]
    ours = paste_masks(snapped(boxes, cells), torch.ones(1), masks, SIZE, threshold, min_area=0).labels > 0
    # Up to rounding at the threshold.
    unsure = (probability - threshold).abs() < 1e-4
    assert torch.equal(ours | unsure, (probability >= threshold) | unsure)


def test_torchvisions_whole_pixels_move_an_outline_by_less_than_two() -> None:
    y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    masks = (1.5 - ((y - 13.5) ** 2 + (x - 13.5) ** 2).sqrt() / 14)[None].clamp(0, 1)
    boxes = torch.tensor([[10.4, 8.7, 41.2, 36.1]])
    ours = paste_masks(boxes, torch.ones(1), masks, SIZE, 0.5, min_area=0).labels.numpy() > 0
    theirs = paste_masks_in_image(masks[:, None], boxes, SIZE)[0, 0].numpy() >= 0.5
    # Of 27 to 31 px across.
    assert np.abs(np.ptp(np.argwhere(ours), axis=0) - np.ptp(np.argwhere(theirs), axis=0)).max() <= 2
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.9


@given(st.integers(0, 10**6), st.integers(-3, 12), st.integers(-3, 12))
def test_a_mask_of_its_boxs_size_is_pasted_as_it_is(seed: int, x: int, y: int) -> None:
    mask = torch.rand(6, 6, generator=torch.Generator().manual_seed(seed)) < 0.5
    box = torch.tensor([[x, y, x + 6, y + 6]], dtype=torch.float32)
    padded = torch.zeros(26, 26, dtype=torch.bool)
    padded[y + 6 : y + 12, x + 6 : x + 12] = mask
    found = paste_masks(box, torch.ones(1), mask[None].float(), (14, 14), 0.5, min_area=0)
    assert torch.equal(found.labels > 0, padded[6:20, 6:20])


def test_of_overlapping_objects_score_times_probability_decides_each_pixel() -> None:
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]] * 2)
    masks = torch.stack([torch.full((4, 4), 0.6), torch.linspace(0.55, 1, 4).expand(4, 4)])
    found = paste_masks(boxes, torch.tensor([0.9, 0.7]), masks, (4, 4), 0.5, min_area=0)
    expected = 1 + (0.7 * masks[1] > 0.9 * masks[0]).long()
    assert torch.equal(found.labels, expected)
    assert set(expected.unique().tolist()) == {1, 2}
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])


def test_an_object_below_the_threshold_leaves_the_pixel_to_a_less_likely_one_above_it() -> None:
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0]] * 2)
    masks = torch.stack([torch.full((2, 2), 0.4), torch.full((2, 2), 0.6)])
    found = paste_masks(boxes, torch.tensor([1.0, 0.1]), masks, (2, 2), 0.5, min_area=0)
    assert found.labels.tolist() == [[1, 1], [1, 1]]
    assert found.scores.tolist() == pytest.approx([0.1])


def test_small_and_hidden_objects_are_dropped_and_the_others_numbered_without_gaps() -> None:
    boxes = torch.tensor([[0, 0, 3, 3], [1, 1, 2, 2], [4, 0, 6, 1], [0, 4, 5, 6]], dtype=torch.float32)
    scores = torch.tensor([0.9, 0.5, 0.8, 0.7])
    found = paste_masks(boxes, scores, torch.ones(4, 8, 8), (8, 8), 0.5, min_area=3)
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])
    assert found.boxes.tolist() == [[0, 0, 3, 3], [0, 4, 5, 6]]
    assert torch.bincount(found.labels.ravel())[1:].tolist() == [9, 10]


@pytest.mark.parametrize("box", [[3, 3, 3, 9], [3, 3, 1, 9], [20, 0, 30, 5], [-9, -9, -1, -1]])
def test_boxes_without_a_pixel_of_the_image_give_nothing(box: list[float]) -> None:
    found = paste_masks(torch.tensor([box]).float(), torch.ones(1), torch.ones(1, 4, 4), (10, 10), 0.5, min_area=0)
    assert len(found) == 0 and found.labels.max() == 0


def test_no_object_at_all() -> None:
    found = paste_masks(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 8, 8), (5, 7), 0.5, min_area=0)
    assert found.labels.shape == (5, 7) and found.boxes.shape == (0, 4)


def test_two_thousand_objects_are_not_held_as_two_thousand_images() -> None:
    largest = 0

    class Watcher(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    y, x = np.divmod(np.arange(2000), 50)
    corners = torch.from_numpy(np.stack([x * 20, y * 25], axis=1)).float()
    boxes = torch.cat([corners, corners + 18], dim=1)
    with Watcher():
        found = paste_masks(boxes, torch.ones(2000), torch.ones(2000, 28, 28), (1024, 1024), 0.5, min_area=0)
    assert len(found) == 2000
    assert largest <= 2000 * 28 * 28


def test_the_precision_of_a_trainer_changes_nothing() -> None:
    boxes = torch.tensor([[3.2, 4.1, 21.7, 17.3], [15.0, 2.0, 40.0, 30.0]])
    masks = torch.rand(2, 28, 28, generator=torch.Generator().manual_seed(0))
    full = paste_masks(boxes, torch.tensor([0.9, 0.8]), masks, (32, 48), 0.5, min_area=1)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = paste_masks(boxes, torch.tensor([0.9, 0.8]), masks, (32, 48), 0.5, min_area=1)
    assert torch.equal(full.labels, mixed.labels) and len(full) == 2
