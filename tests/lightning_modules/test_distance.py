from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from round_trip import any_labels, mean_iou, nuclei, real_labels, same_objects, separate_ellipses, touching_discs
from scipy import ndimage
from torch.nn import functional

from lightning_modules.representations.distance import (
    Distance,
    DistanceDecoder,
    boundary_distance,
    encode,
    object_maximum,
)
from lightning_modules.symmetry import VIEWS, turn

EXACT = DistanceDecoder(min_seed_area=1, min_area=1)


def output_of(labels: torch.Tensor) -> torch.Tensor:
    """What a network would say that is sure of it, (B, 2, H, W)."""
    return torch.stack([(labels > 0) * 40.0 - 20, encode(labels)], dim=1)


def maps(labels: torch.Tensor) -> torch.Tensor:
    return Distance().maps(output_of(labels[None]))[0]


@settings(max_examples=60, deadline=None)
@given(any_labels)
def test_boundary_distance_is_that_to_the_nearest_square_of_another_label(labels: torch.Tensor) -> None:
    image = labels.numpy()
    rows, columns = np.indices(image.shape).reshape(2, -1)
    beyond = [np.maximum(np.abs(np.subtract.outer(c, c)) - 0.5, 0) for c in (rows, columns)]
    distance = np.where(np.not_equal.outer(image.ravel(), image.ravel()), np.hypot(*beyond), sum(image.shape))
    expected = distance.min(axis=1).reshape(image.shape)
    inside = image > 0
    measured = boundary_distance(labels[None])[0].numpy()
    np.testing.assert_allclose(measured[inside], expected[inside], rtol=1e-6)
    for k in np.unique(image[inside]):
        relative = expected[image == k] / expected[image == k].max()
        np.testing.assert_allclose(encode(labels[None])[0].numpy()[image == k], relative, rtol=1e-6)
    assert not encode(labels[None])[0].numpy()[~inside].any()


def test_boundary_distance_of_nuclei_is_scipys_on_a_grid_twice_as_fine() -> None:
    # In the fine grid the pixels have even coordinates, and what lies between different ones is boundary.
    labels = nuclei(1, 96)[0].numpy()
    fine = np.kron(labels, np.ones((2, 2), np.int64))[:-1, :-1]
    boundary = np.zeros_like(fine, dtype=bool)
    boundary[:, 1::2] |= fine[:, :-1:2] != fine[:, 2::2]
    boundary[1::2] |= fine[:-1:2] != fine[2::2]
    boundary[1::2, 1::2] |= boundary[1::2, :-1:2] | boundary[1::2, 2::2] | boundary[:-1:2, 1::2] | boundary[2::2, 1::2]
    expected = ndimage.distance_transform_edt(~boundary)[::2, ::2] / 2
    measured = boundary_distance(torch.from_numpy(labels)[None])[0].numpy()
    np.testing.assert_allclose(measured[labels > 0], expected[labels > 0], rtol=1e-6)


def test_each_image_has_objects_of_its_own() -> None:
    values = torch.tensor([[[1.0, 5.0, 2.0]], [[7.0, 3.0, 4.0]]])
    labels = torch.tensor([[[1, 0, 1]], [[2, 1, 1]]])
    assert object_maximum(values, labels).tolist() == [[[2, 5, 2]], [[7, 4, 4]]]
    assert torch.equal(encode(nuclei()), torch.cat([encode(image[None]) for image in nuclei()]))


@settings(max_examples=30, deadline=None)
@given(separate_ellipses())
def test_separate_objects_come_back(labels: torch.Tensor) -> None:
    assert same_objects(labels, EXACT(maps(labels)).labels)


def test_touching_objects_come_back() -> None:
    instances = DistanceDecoder()(maps(touching_discs()))
    assert len(instances) == 6
    assert mean_iou(touching_discs(), instances.labels) > 0.97
    assert instances.scores.tolist() == pytest.approx([1] * 6)


def test_long_and_flat_objects_have_one_seed() -> None:
    labels = torch.zeros(40, 60, dtype=torch.int64)
    labels[2:8, 1:59] = 1
    labels[10:38, 2:30] = 2
    labels[10:38, 30:58] = 3
    assert same_objects(labels, EXACT(maps(labels)).labels)


@pytest.mark.real_data
def test_real_objects_come_back(real_dsb2018: Path, real_cache_dir: Path) -> None:
    labels = real_labels(real_dsb2018, real_cache_dir, every=33)
    assert np.mean([mean_iou(image, DistanceDecoder()(maps(image)).labels) for image in labels]) > 0.97


@given(any_labels, st.permutations(range(1, 5)))
def test_ids_are_names_only(labels: torch.Tensor, names: list[int]) -> None:
    renamed = torch.tensor([0, *names])[labels]
    assert torch.equal(encode(labels[None]), encode(renamed[None]))


@pytest.mark.parametrize("view", VIEWS)
def test_maps_turn_with_the_image(view: tuple[int, bool]) -> None:
    labels = nuclei()
    turned = Distance().maps(output_of(turn(labels, *view)))
    assert torch.equal(Distance().turn_back(turned, *view), Distance().maps(output_of(labels)))


def test_holes_stay_background_and_specks_are_dropped() -> None:
    labels = torch.zeros(20, 20, dtype=torch.int64)
    labels[2:15, 2:15] = 1
    labels[8, 8] = 0
    labels[18, 18] = 2
    assert torch.equal(EXACT(maps(labels)).labels, labels)
    assert torch.equal(DistanceDecoder()(maps(labels)).labels, labels * (labels == 1))
    assert len(DistanceDecoder()(maps(torch.zeros(5, 6, dtype=torch.int64)))) == 0
    everywhere = torch.full((5, 6), 3)
    assert (encode(everywhere[None]) == 1).all()
    assert len(EXACT(maps(everywhere))) == 1


def test_seed_threshold_decides_how_deep_a_valley_parts() -> None:
    hills = torch.tensor([0.4, 0.9, 0.9, 0.6, 0.8, 0.3]).expand(5, 6)
    both = torch.stack([torch.full((5, 6), 0.7), hills])
    assert len(DistanceDecoder(seed_threshold=0.5)(both)) == 1
    parted = DistanceDecoder(seed_threshold=0.7)(both)
    assert len(parted) == 2
    assert parted.labels[0].tolist()[:3] + parted.labels[0].tolist()[4:] == [1, 1, 1, 2, 2]
    assert parted.scores.tolist() == pytest.approx([0.7, 0.7])
    assert len(DistanceDecoder(seed_threshold=0.7, min_seed_area=6)(both)) == 1
    assert len(DistanceDecoder(threshold=0.8)(both)) == 0


def test_loss_is_cross_entropy_and_weighted_smooth_l1() -> None:
    labels = nuclei(1, 32)
    output = torch.randn(1, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    target = encode(labels)
    entropy = functional.binary_cross_entropy(output[:, 0].sigmoid(), (labels > 0).float())
    difference = (output[:, 1] - target).abs()
    smooth = torch.where(difference < 0.2, difference**2 / 0.4, difference - 0.1)
    weight = torch.where(labels > 0, 1.0, 0.25)
    expected = entropy + 3 * (weight * smooth).sum() / weight.sum()
    loss = Distance(weight=3, background_weight=0.25, beta=0.2).loss(output, labels)
    torch.testing.assert_close(loss, expected)
    assert Distance().loss(output_of(labels), labels).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("background_weight", [0, 0.1])
@pytest.mark.parametrize("labels", [nuclei(), torch.zeros(2, 8, 9).long()], ids=["nuclei", "empty"])
def test_loss_is_finite_under_autocast_and_reaches_the_output(labels: torch.Tensor, background_weight: float) -> None:
    output = torch.full((2, 2, *labels.shape[1:]), 30.0, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        loss = Distance(background_weight=background_weight).loss(output, labels)
    loss.backward()
    assert loss.isfinite() and loss.dtype == torch.float32
    assert output.grad is not None and output.grad.isfinite().all()
    assert output.grad[:, 0].any()
    assert output.grad[:, 1].any() == (labels.any() or background_weight > 0)


def test_the_least_loss_decodes_to_the_labels() -> None:
    labels = torch.stack([touching_discs(), touching_discs().flip(-1)])
    output = torch.zeros(2, 2, 40, 96, requires_grad=True)
    optimizer = torch.optim.Adam([output], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        Distance().loss(output, labels).backward()
        optimizer.step()
    for truth, image in zip(labels, Distance().maps(output), strict=True):
        assert mean_iou(truth, DistanceDecoder()(image).labels) > 0.97


def test_maps_are_in_the_unit_interval_at_any_size() -> None:
    both = Distance().maps(3 * torch.randn(1, 2, 8, 8, dtype=torch.bfloat16))
    assert both.dtype == torch.float32
    resized = Distance().resize(both[0], (20, 12))
    assert resized.shape == (2, 20, 12)
    assert resized.min() >= 0 and resized.max() <= 1
    assert torch.equal(DistanceDecoder().probability(resized), resized[0])


def test_knobs_to_tune_are_arguments_whose_defaults_are_among_the_choices() -> None:
    for knob, choices in DistanceDecoder.knobs.items():
        assert getattr(DistanceDecoder(), knob) in choices
        assert list(choices) == sorted(choices)
