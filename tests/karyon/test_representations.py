"""What every representation and its post-processing must do; a new one needs an entry in `round_trip.METHODS`."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from round_trip import (
    METHODS,
    Labels,
    Method,
    any_labels,
    mean_iou,
    nuclei,
    real_labels,
    same_objects,
    separate_ellipses,
    touching_discs,
)
from scipy import ndimage

from karyon.inference.rotations import VIEWS, turn
from karyon.instances import Instances
from karyon.metrics.matching import match_instances

every = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
parting = pytest.mark.parametrize(
    "method", [m for m in METHODS.values() if m.touching], ids=[name for name, m in METHODS.items() if m.touching]
)


@every
@settings(max_examples=30)
@given(labels=separate_ellipses())
def test_separate_objects_come_back(method: Method, labels: Labels) -> None:
    found = method.finder()(method.maps(labels)).labels
    matching = match_instances(labels, found)
    # Entry 4 of the thresholds is an IoU of .7, which small round objects have with their polygons.
    assert same_objects(labels, found) if method.exact else matching.n_true == matching.n_pred == matching.tp[4]


@parting
def test_touching_objects_come_back(method: Method) -> None:
    found = method.postprocessing()(method.maps(touching_discs()))
    assert len(found) == 6
    assert mean_iou(touching_discs(), found.labels) > (0.97 if method.exact else 0.94)
    assert found.scores == pytest.approx(1)


@parting
@pytest.mark.slow
@pytest.mark.real_data
def test_real_objects_come_back(method: Method, real_dsb2018: Path, real_cache_dir: Path) -> None:
    labels = real_labels(real_dsb2018, real_cache_dir, every=33)
    found = [method.postprocessing()(method.maps(image)).labels for image in labels]
    assert np.mean(list(map(mean_iou, labels, found))) > (0.97 if method.exact else 0.9)


@every
@settings(max_examples=40)
@given(labels=any_labels, names=st.permutations(range(1, 5)))
def test_anything_can_be_encoded_and_decoded_whatever_its_ids(method: Method, labels: Labels, names: list[int]) -> None:
    maps = method.maps(labels)
    assert maps.dtype == np.float32 and np.isfinite(maps).all()
    np.testing.assert_allclose(method.maps(np.array([0, *names])[labels]), maps, atol=1e-5)
    found = method.finder()(maps)
    assert found.labels.dtype == np.int32 and found.labels.shape == labels.shape
    # Specks that touch are one place to arrive at, which explains the flow of neither.
    assert (found.labels > 0).any() == (labels > 0).any() or method is METHODS["flow"]
    assert not (method.exact and found.labels[labels == 0].any())
    assert np.array_equal(found.boxes, Instances.from_labels(found.labels).boxes)
    assert found.scores.shape == (found.labels.max(),) and ((found.scores >= 0.5) & (found.scores <= 1)).all()


@every
def test_specks_come_back_unless_they_are_smaller_than_is_asked_for(method: Method) -> None:
    labels = np.zeros((20, 24), np.int64)
    labels[2:15, 2:15] = 1
    labels[11, 4] = 0
    labels[18, 18] = 2
    found = method.finder()(method.maps(labels))
    assert len(found) == 2 and found.labels[18, 18] not in (0, found.labels[8, 8])
    # A hole of one pixel is filled by a polygon.
    assert same_objects(labels, found.labels) == method.exact
    for min_area, expected in [(2, 1), (140, 1), (170, 0)]:
        large = method.postprocessing(**{**method.smallest, "min_area": min_area})(method.maps(labels))
        assert len(large) == expected and not large.labels[18, 18]
    assert len(method.postprocessing()(method.maps(np.zeros((5, 6), np.int64)))) == 0
    full = method.finder()(method.maps(np.full((9, 7), 3)))
    assert len(full) == 1 and (full.labels == 1).mean() > (0.99 if method.exact else 0.9)


@every
def test_images_of_a_batch_do_not_know_of_each_other(method: Method) -> None:
    labels = np.concatenate([nuclei(), np.tile(touching_discs(), (2, 1))[None, :64, :64]])
    difference = method.maps(labels) - np.stack([method.maps(image) for image in labels])
    # A flow takes as many steps as the largest object needs, so that its angles differ a little.
    assert np.sqrt((difference**2).sum(1)).mean() < (0.02 if method is METHODS["flow"] else 1e-6)


@every
@pytest.mark.parametrize("view", VIEWS)
def test_maps_turn_with_the_image(method: Method, view: tuple[int, bool]) -> None:
    turned = method.maps(turn(nuclei(), *view))
    # Sums of a flow are taken in another order.
    tolerance = 5e-3 if method is METHODS["flow"] else 1e-5
    np.testing.assert_allclose(
        method.postprocessing().turn_back(turned, *view), method.maps(nuclei()), atol=tolerance, rtol=1e-5
    )


def ellipses(size: tuple[int, int]) -> Labels:
    """Two ellipses, the same at any size, drawn as exactly as its pixels allow."""
    y, x = ((np.arange(side) + 0.5) / side for side in size)
    y = y[:, None]
    first = ((y - 0.5 + 0.5 * (x - 0.3)) / 0.26) ** 2 + ((x - 0.3) / 0.2) ** 2 < 1
    second = ((y - 0.4) / 0.3) ** 2 + ((x - 0.77) / 0.16) ** 2 < 1
    return first + 2 * second


@every
@pytest.mark.parametrize("size", [(96, 96), (48, 144), (120, 60), (24, 48)])
def test_resized_maps_are_those_of_the_resized_objects(method: Method, size: tuple[int, int]) -> None:
    finder = method.postprocessing()
    resized = finder.resize(method.maps(ellipses((48, 48))), size)
    assert resized.shape[1:] == size and resized.dtype == np.float32
    found = finder(resized)
    assert len(found) == 2 and mean_iou(ellipses(size), found.labels) > 0.9
    probability = finder.probability(resized)
    assert probability.shape == size and probability.min() >= 0 and probability.max() <= 1 + 1e-6
    assert probability[found.labels > 0].mean() > probability[found.labels == 0].mean() + 0.4


@every
def test_objects_grow_until_they_meet(method: Method) -> None:
    # Two squares, 3 px apart, and a third one far away.
    labels = np.zeros((30, 60), np.int64)
    for number, (top, left) in enumerate([(8, 5), (8, 20), (8, 42)], start=1):
        labels[top : top + 12, left : left + 12] = number
    plain, grown = (method.postprocessing(dilation=pixels)(method.maps(labels)) for pixels in (0, 2))
    assert len(plain) == len(grown) == 3 and np.isfinite(grown.scores).all()
    away = ndimage.distance_transform_edt(plain.labels == 0)
    assert np.array_equal(grown.labels > 0, away <= 2)
    # Each pixel went to the object that it is nearest to.
    for number in range(1, 4):
        others = ndimage.distance_transform_edt((plain.labels == 0) | (plain.labels == number))
        assert (others[grown.labels == number] >= away[grown.labels == number]).all()
    assert np.array_equal(grown.labels[plain.labels > 0], plain.labels[plain.labels > 0])


@every
def test_parameters_to_tune_are_fields_whose_defaults_are_among_the_choices(method: Method) -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(method.postprocessing())}
    for name, choices in method.postprocessing.choices.items():
        assert defaults[name] in choices and list(choices) == sorted(set(choices))


@every
def test_the_loss_is_least_at_the_truth(method: Method) -> None:
    labels = torch.from_numpy(nuclei(1, 32))
    truth = method.output(labels).requires_grad_()
    least = method.representation.loss(truth, labels)
    least.backward()
    assert truth.grad is not None and truth.grad.abs().max() < 2e-4
    # A star's probability lies between 0 and 1: its cross-entropy is not 0.
    assert method is METHODS["star"] or least.item() == pytest.approx(0, abs=1e-4)
    for seed, amount in enumerate([0.1, 1, 10, 100]):
        noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(seed))
        assert method.representation.loss(truth.detach() + amount * noise, labels) > least - 1e-6
        assert method.representation.loss(amount * noise, labels) > least + 0.01


@every
@pytest.mark.parametrize("labels", [nuclei(), np.zeros((2, 18, 19), np.int64)], ids=["nuclei", "empty"])
def test_the_loss_is_finite_under_autocast_and_reaches_the_output(method: Method, labels: Labels) -> None:
    channels = method.maps(labels).shape[1]
    output = torch.full((2, channels, *labels.shape[1:]), 30.0, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.representation.loss(output, torch.from_numpy(labels))
    loss.backward()
    assert loss.isfinite() and loss.dtype == torch.float32
    assert output.grad is not None and output.grad.isfinite().all()
    maps = method.representation.maps(output)
    assert maps.dtype == torch.float32 and not maps.requires_grad and maps.isfinite().all()


@parting
@pytest.mark.slow
def test_the_least_loss_decodes_to_the_labels(method: Method) -> None:
    labels = torch.from_numpy(touching_discs()[None])
    output = torch.zeros_like(method.output(labels), requires_grad=True)
    optimizer = torch.optim.Adam([output], lr=0.2)
    for _ in range(100):
        optimizer.zero_grad()
        method.representation.loss(output, labels).backward()
        optimizer.step()
    found = method.postprocessing()(method.representation.maps(output).numpy()[0])
    assert mean_iou(touching_discs(), found.labels) > (0.97 if method.exact else 0.9)


@every
def test_nothing_is_learned_where_nothing_is_annotated(method: Method) -> None:
    labels = torch.from_numpy(np.stack([touching_discs()] * 2))
    output = method.output(labels) / 10 + torch.randn(2, 1, *labels.shape[1:])
    whole = method.representation.loss(output, labels)
    unknown = torch.zeros(labels.shape, dtype=torch.bool)
    unknown[:, : labels.shape[1] // 3] = unknown[1, :, 5:] = True
    partly = labels.masked_fill(unknown, -1)
    output.requires_grad_()
    loss = method.representation.loss(output, partly)
    (gradient,) = torch.autograd.grad(loss, output)
    assert not gradient.movedim(1, -1)[unknown].any() and gradient.any() and loss != whole
    elsewhere = torch.where(unknown[:, None], 9 * torch.randn_like(output), output)
    assert method.representation.loss(elsewhere, partly).item() == pytest.approx(loss.item(), rel=1e-5)
    nothing = method.representation.loss(output, torch.full_like(labels, -1))
    assert nothing.isfinite() and not torch.autograd.grad(nothing, output, allow_unused=True)[0].any()
