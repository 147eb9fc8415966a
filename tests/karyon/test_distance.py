import numpy as np
import pytest
import torch
from hypothesis import given, settings
from round_trip import METHODS, Labels, any_labels, nuclei, same_objects
from scipy import ndimage
from torch.nn import functional

from karyon.representations.distance.loss import Distance, boundary_distance, encode, object_maximum
from karyon.representations.distance.postprocessing import DistancePostprocessing


@settings(max_examples=60)
@given(any_labels)
def test_boundary_distance_is_that_to_the_nearest_square_of_another_label(labels: Labels) -> None:
    rows, columns = np.indices(labels.shape).reshape(2, -1)
    beyond = [np.maximum(np.abs(np.subtract.outer(c, c)) - 0.5, 0) for c in (rows, columns)]
    distance = np.where(np.not_equal.outer(labels.ravel(), labels.ravel()), np.hypot(*beyond), sum(labels.shape))
    expected = distance.min(axis=1).reshape(labels.shape)
    inside, images = labels > 0, torch.from_numpy(labels)[None]
    np.testing.assert_allclose(boundary_distance(images)[0].numpy()[inside], expected[inside], rtol=1e-6)
    encoded = encode(images)[0].numpy()
    for k in np.unique(labels[inside]):
        relative = expected[labels == k] / expected[labels == k].max()
        np.testing.assert_allclose(encoded[labels == k], relative, rtol=1e-6)
    assert not encoded[~inside].any()


def test_boundary_distance_of_nuclei_is_scipys_on_a_grid_twice_as_fine() -> None:
    # In the fine grid the pixels have even coordinates, and what lies between different ones is boundary.
    labels = nuclei(1, 96)[0]
    fine = np.kron(labels, np.ones((2, 2), np.int64))[:-1, :-1]
    boundary = np.zeros_like(fine, dtype=bool)
    boundary[:, 1::2] |= fine[:, :-1:2] != fine[:, 2::2]
    boundary[1::2] |= fine[:-1:2] != fine[2::2]
    boundary[1::2, 1::2] |= boundary[1::2, :-1:2] | boundary[1::2, 2::2] | boundary[:-1:2, 1::2] | boundary[2::2, 1::2]
    expected = ndimage.distance_transform_edt(~boundary)[::2, ::2] / 2
    measured = boundary_distance(torch.from_numpy(labels)[None])[0].numpy()
    np.testing.assert_allclose(measured[labels > 0], expected[labels > 0], rtol=1e-6)


def test_the_maximum_is_that_of_an_object_of_the_same_image() -> None:
    values = torch.tensor([[[1.0, 5.0, 2.0]], [[7.0, 3.0, 4.0]]])
    labels = torch.tensor([[[1, 0, 1]], [[2, 1, 1]]])
    assert object_maximum(values, labels).tolist() == [[[2, 5, 2]], [[7, 4, 4]]]


def test_long_and_flat_objects_have_one_seed() -> None:
    labels = np.zeros((40, 60), np.int64)
    labels[2:8, 1:59] = 1
    labels[10:38, 2:30] = 2
    labels[10:38, 30:58] = 3
    assert same_objects(labels, DistancePostprocessing()(METHODS["distance"].maps(labels)).labels)


def test_seed_threshold_decides_how_deep_a_valley_parts() -> None:
    hills = np.tile(np.float32([0.4, 0.9, 0.9, 0.6, 0.8, 0.3]), (5, 1))
    maps = np.stack([np.full((5, 6), 0.7, np.float32), hills])
    assert len(DistancePostprocessing(seed_threshold=0.5)(maps)) == 1
    parted = DistancePostprocessing(seed_threshold=0.7)(maps)
    assert np.delete(parted.labels[0], 3).tolist() == [1, 1, 1, 2, 2]
    assert parted.scores == pytest.approx([0.7, 0.7])
    assert len(DistancePostprocessing(seed_threshold=0.7, min_seed_area=6)(maps)) == 1
    assert len(DistancePostprocessing(threshold=0.8)(maps)) == 0


def test_loss_is_cross_entropy_and_weighted_smooth_l1() -> None:
    labels = torch.from_numpy(nuclei(1, 32))
    output = torch.randn(1, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    target = encode(labels)
    entropy = functional.binary_cross_entropy(output[:, 0].sigmoid(), (labels > 0).float())
    difference = (output[:, 1] - target).abs()
    smooth = torch.where(difference < 0.2, difference**2 / 0.4, difference - 0.1)
    weight = torch.where(labels > 0, 1.0, 0.25)
    expected = entropy + 3 * (weight * smooth).sum() / weight.sum()
    loss = Distance(weight=3, background_weight=0.25, beta=0.2).loss(output, labels)
    torch.testing.assert_close(loss, expected)
    # An image without objects weighs nothing.
    assert Distance(background_weight=0).loss(output, 0 * labels).isfinite()
