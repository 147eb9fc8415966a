from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from round_trip import any_labels, mean_iou, nuclei, real_labels, same_objects, separate_ellipses, touching_discs
from scipy import ndimage
from torch.nn import functional

from lightning_modules.representations.border import Border, BorderDecoder, encode
from lightning_modules.symmetry import VIEWS, turn

EXACT = BorderDecoder(min_seed_area=1, min_area=1)


def logits(labels: torch.Tensor, width: int = 2) -> torch.Tensor:
    """What a network would say that is sure of it, (B, 3, H, W)."""
    return 40 * functional.one_hot(encode(labels, width), 3).movedim(-1, 1).float()


def maps(labels: torch.Tensor, width: int = 2) -> torch.Tensor:
    return Border().maps(logits(labels[None], width))[0]


@settings(max_examples=60, deadline=None)
@given(any_labels, st.integers(1, 3))
def test_classes_equal_dilation_object_by_object(labels: torch.Tensor, width: int) -> None:
    image, expected = labels.numpy(), np.zeros(labels.shape, np.int64)
    for k in np.unique(image[image > 0]):
        mask, others = image == k, (image > 0) & (image != k)
        bodies = [mask & ~ndimage.binary_dilation(others, np.ones((2 * w + 1, 2 * w + 1))) for w in range(width, 0, -1)]
        body = next((body for body in bodies if body.any()), mask)
        expected[mask] = np.where(body, 1, 2)[mask]
    assert np.array_equal(encode(labels[None], width)[0], expected)


def test_a_small_nucleus_in_a_cluster_keeps_a_body() -> None:
    labels = torch.ones(1, 9, 9, dtype=torch.int64)
    labels[0, 4, 4] = 2
    classes = encode(labels, width=3)[0]
    assert classes[4, 4] == 1
    assert classes[1:8, 1:8].sum() == 2 * 48 + 1
    labels[0, 3:6, 3:6] = 2
    assert (encode(labels, width=2)[0, 3:6, 3:6] == torch.tensor([[2, 2, 2], [2, 1, 2], [2, 2, 2]])).all()


@settings(max_examples=30, deadline=None)
@given(separate_ellipses())
def test_separate_objects_come_back(labels: torch.Tensor) -> None:
    assert same_objects(labels, EXACT(maps(labels)).labels)


def test_touching_objects_come_back() -> None:
    instances = BorderDecoder()(maps(touching_discs()))
    assert len(instances) == 6
    assert mean_iou(touching_discs(), instances.labels) > 0.97
    assert instances.scores.tolist() == pytest.approx([1] * 6)


@pytest.mark.real_data
def test_real_objects_come_back(real_dsb2018: Path, real_cache_dir: Path) -> None:
    labels = real_labels(real_dsb2018, real_cache_dir, every=33)
    assert np.mean([mean_iou(image, BorderDecoder()(maps(image)).labels) for image in labels]) > 0.97


@given(any_labels, st.permutations(range(1, 5)))
def test_ids_are_names_only(labels: torch.Tensor, names: list[int]) -> None:
    renamed = torch.tensor([0, *names])[labels]
    assert torch.equal(encode(labels[None]), encode(renamed[None]))


@pytest.mark.parametrize("view", VIEWS)
def test_maps_turn_with_the_image(view: tuple[int, bool]) -> None:
    labels = nuclei()
    turned = Border().maps(logits(turn(labels, *view)))
    assert torch.equal(Border().turn_back(turned, *view), Border().maps(logits(labels)))


def test_holes_stay_background_and_specks_are_dropped() -> None:
    labels = torch.zeros(20, 20, dtype=torch.int64)
    labels[2:15, 2:15] = 1
    labels[6:9, 6:9] = 0
    labels[18, 18] = 2
    assert torch.equal(EXACT(maps(labels)).labels, labels)
    assert torch.equal(BorderDecoder()(maps(labels)).labels, labels * (labels == 1))
    assert len(BorderDecoder()(maps(torch.zeros(5, 6, dtype=torch.int64)))) == 0


def test_a_seed_needs_the_body_to_outweigh_the_border_and_an_area() -> None:
    body = torch.full((7, 21), 0.9)
    body[:, 10] = 0.5
    border = torch.full((7, 21), 0.05)
    border[:, 10] = 0.4
    body[3, 3:5] = 0.95
    both = torch.stack([1 - body - border, body, border])
    assert len(BorderDecoder(seed_threshold=0.5)(both)) == 2
    assert len(BorderDecoder(seed_threshold=0.05)(both)) == 1
    decoded = BorderDecoder(seed_threshold=0.875, min_seed_area=2)(both)
    assert len(decoded) == 1
    # The foreground is body and border together, .9 on the ridge and .95 beside it.
    assert torch.equal(decoded.labels > 0, torch.ones(7, 21, dtype=torch.bool))
    assert len(BorderDecoder(seed_threshold=0.875, min_seed_area=3)(both)) == 0
    assert not BorderDecoder(threshold=0.92)(both).labels[:, 10].any()


def test_loss_is_weighted_cross_entropy_and_dice() -> None:
    labels = nuclei(1, 32)
    output = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    target, probability = encode(labels), output.softmax(1)
    right = probability.gather(1, target[:, None])[:, 0]
    weight = torch.tensor([1.0, 2.0, 7.0])[target]
    entropy = -(weight * right.log()).sum() / weight.sum()
    dice = [
        (2 * probability[:, k][target == k].sum() + 1) / (probability[:, k].sum() + (target == k).sum() + 1)
        for k in (1, 2)
    ]
    expected = entropy + 0.5 * (1 - (dice[0] + dice[1]) / 2)
    torch.testing.assert_close(Border(weights=(1, 2, 7), dice_weight=0.5).loss(output, labels), expected)
    assert Border().loss(logits(labels), labels).item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("labels", [nuclei(), torch.zeros(2, 8, 9).long()], ids=["nuclei", "empty"])
def test_loss_is_finite_under_autocast_and_reaches_the_output(labels: torch.Tensor) -> None:
    output = torch.full((2, 3, *labels.shape[1:]), 30.0, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        loss = Border().loss(output, labels)
    loss.backward()
    assert loss.isfinite() and loss.dtype == torch.float32
    assert output.grad is not None and output.grad.isfinite().all()
    assert output.grad.any()


def test_the_least_loss_decodes_to_the_labels() -> None:
    labels = torch.stack([touching_discs(), touching_discs().flip(-1)])
    output = torch.zeros(2, 3, 40, 96, requires_grad=True)
    optimizer = torch.optim.Adam([output], lr=0.5)
    for _ in range(40):
        optimizer.zero_grad()
        Border().loss(output, labels).backward()
        optimizer.step()
    for truth, image in zip(labels, Border().maps(output), strict=True):
        assert mean_iou(truth, BorderDecoder()(image).labels) > 0.97


def test_maps_are_probabilities_at_any_size() -> None:
    probability = Border().maps(torch.randn(1, 3, 8, 8, dtype=torch.bfloat16))
    assert probability.dtype == torch.float32
    resized = Border().resize(probability[0], (20, 12))
    assert resized.shape == (3, 20, 12)
    torch.testing.assert_close(resized.sum(0), torch.ones(20, 12))
    torch.testing.assert_close(BorderDecoder().probability(resized), 1 - resized[0])


def test_knobs_to_tune_are_arguments_whose_defaults_are_among_the_choices() -> None:
    for knob, choices in BorderDecoder.knobs.items():
        assert getattr(BorderDecoder(), knob) in choices
        assert list(choices) == sorted(choices)
