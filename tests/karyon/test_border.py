import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from round_trip import Labels, any_labels, nuclei
from scipy import ndimage

from karyon.representations.border.loss import Border, encode
from karyon.representations.border.postprocessing import BorderPostprocessing


@settings(max_examples=60)
@given(any_labels, st.integers(1, 3))
def test_classes_equal_dilation_object_by_object(labels: Labels, width: int) -> None:
    expected = np.zeros(labels.shape, np.int64)
    for k in np.unique(labels[labels > 0]):
        mask, others = labels == k, (labels > 0) & (labels != k)
        bodies = [mask & ~ndimage.binary_dilation(others, np.ones((2 * w + 1, 2 * w + 1))) for w in range(width, 0, -1)]
        body = next((body for body in bodies if body.any()), mask)
        expected[mask] = np.where(body, 1, 2)[mask]
    assert np.array_equal(encode(torch.from_numpy(labels)[None], width)[0], expected)


def test_a_small_nucleus_in_a_cluster_keeps_a_body() -> None:
    labels = torch.ones(1, 9, 9, dtype=torch.int64)
    labels[0, 4, 4] = 2
    classes = encode(labels, width=3)[0]
    assert classes[4, 4] == 1
    assert classes[1:8, 1:8].sum() == 2 * 48 + 1
    labels[0, 3:6, 3:6] = 2
    assert encode(labels, width=2)[0, 3:6, 3:6].tolist() == [[2, 2, 2], [2, 1, 2], [2, 2, 2]]


def test_a_seed_needs_the_body_to_outweigh_the_border_and_an_area() -> None:
    body, border = np.full((7, 21), 0.9, np.float32), np.full((7, 21), 0.05, np.float32)
    body[:, 10], border[:, 10] = 0.5, 0.4
    body[3, 3:5] = 0.95
    maps = np.stack([1 - body - border, body, border])
    assert len(BorderPostprocessing(seed_threshold=0.5)(maps)) == 2
    assert len(BorderPostprocessing(seed_threshold=0.05)(maps)) == 1
    decoded = BorderPostprocessing(seed_threshold=0.875, min_seed_area=2)(maps)
    # The foreground is body and border together, .9 on the ridge and .95 beside it.
    assert len(decoded) == 1 and (decoded.labels > 0).all()
    assert len(BorderPostprocessing(seed_threshold=0.875, min_seed_area=3)(maps)) == 0
    assert not BorderPostprocessing(threshold=0.92)(maps).labels[:, 10].any()
    np.testing.assert_allclose(BorderPostprocessing().probability(maps), 1 - maps[0], atol=1e-6)


def test_loss_is_weighted_cross_entropy_and_dice() -> None:
    labels = torch.from_numpy(nuclei(1, 32))
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
    assert Border(weights=(1, 2, 7), dice_weight=0.5).loss(output, labels).item() == pytest.approx(float(expected))
