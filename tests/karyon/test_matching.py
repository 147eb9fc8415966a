import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from label_pairs import label_pairs
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from karyon.instances import Instances
from karyon.metrics.matching import THRESHOLDS, match_instances
from lightning_modules.base import predictions


def dense_overlaps(true, pred):
    """Intersection and union, px, of every true (rows) with every predicted object (columns)."""
    masks = [[image == k for k in np.unique(image[image > 0])] for image in (true, pred)]
    shape = len(masks[0]), len(masks[1])
    intersection = np.array([[np.sum(t & p) for p in masks[1]] for t in masks[0]], dtype=int).reshape(shape)
    union = np.array([[np.sum(t | p) for p in masks[1]] for t in masks[0]], dtype=int).reshape(shape)
    return intersection, union


def rectangle(width, shift):
    """One object of 3 x ``width`` px, ``shift`` px from the left."""
    labels = np.zeros((5, 80), dtype=np.int64)
    labels[1:4, shift : shift + width] = 1
    return labels


@pytest.mark.parametrize("k", range(10, 20))
def test_iou_at_just_above_and_just_below_a_threshold(k):
    # A rectangle w px wide, moved by s px, has an IoU of (w - s) / (w + s) with itself: here exactly k / 20.
    width, shift = 20 + k, 20 - k
    at, above, below = (match_instances(rectangle(width, 5), rectangle(width, 5 + shift + d)) for d in (0, -1, 1))
    i = k - 10
    assert (at.tp[i], at.fp[i], at.fn[i], at.tp_inclusive[i]) == (0, 1, 1, 1)
    assert (above.tp[i], above.fp[i], above.fn[i], above.tp_inclusive[i]) == (1, 0, 0, 1)
    assert (below.tp[i], below.fp[i], below.fn[i], below.tp_inclusive[i]) == (0, 1, 1, 0)
    np.testing.assert_allclose(above.ious, (width - shift + 1) / (width + shift - 1))


def test_two_halves_of_one_object_are_one_match():
    whole = np.array([[1, 1, 1, 1, 0, 2, 2]])
    halves = np.array([[5, 5, 6, 6, 0, 7, 7]])
    for true, pred in ((whole, halves), (halves, whole)):
        matching = match_instances(true, pred)
        assert matching.tp_inclusive.tolist() == [2] + [1] * 9
        assert matching.tp.tolist() == [1] * 10
    assert match_instances(whole, halves).fp[0] == 2


@given(label_pairs())
def test_counts_equal_a_maximum_matching_of_the_dense_table(pair):
    intersection, union = dense_overlaps(*pair)
    matching = match_instances(*pair)
    assert (matching.n_true, matching.n_pred) == intersection.shape
    for i, k in enumerate(range(10, 20)):
        for counted, allowed in (
            (matching.tp[i], 20 * intersection > k * union),
            (matching.tp_inclusive[i], 20 * intersection >= k * union),
        ):
            assert counted == np.sum(maximum_bipartite_matching(csr_array(allowed)) >= 0)
    np.testing.assert_array_equal(matching.fp, matching.n_pred - matching.tp)
    np.testing.assert_array_equal(matching.fn, matching.n_true - matching.tp)
    np.testing.assert_array_equal(matching.ious, np.sort((intersection / union)[2 * intersection > union]))
    np.testing.assert_array_equal(matching.best_ious, (intersection / union).max(axis=0, initial=0))


@given(label_pairs())
def test_swapping_truth_and_prediction_swaps_misses_and_false_alarms(pair):
    forth, back = match_instances(*pair), match_instances(*pair[::-1])
    np.testing.assert_array_equal(forth.tp, back.tp)
    np.testing.assert_array_equal(forth.fp, back.fn)
    np.testing.assert_array_equal(forth.tp_inclusive, back.tp_inclusive)
    np.testing.assert_array_equal(forth.ious, back.ious)


@given(label_pairs(), st.permutations([3, 65_536, 70_001, 2**40]), st.permutations([1, 2, 100_000, 2**50]))
def test_only_the_partition_counts_not_the_ids(pair, true_ids, pred_ids):
    renumbered = np.array([0, *true_ids])[pair[0]], np.array([0, *pred_ids])[pair[1]]
    before, after = (match_instances(*images)._asdict() for images in (pair, renumbered))
    # By ascending id, and the new ids have another order.
    order = np.argsort(np.array([0, *pred_ids])[np.unique(pair[1][pair[1] > 0])])
    before["best_ious"] = before["best_ious"][order]
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])


@given(label_pairs())
def test_truth_against_itself(pair):
    true = pair[0]
    matching = match_instances(true, true)
    n = len(np.unique(true[true > 0]))
    assert matching.tp.tolist() == matching.tp_inclusive.tolist() == [n] * 10
    assert matching.ious.tolist() == [1.0] * n
    assert matching.aji_intersection == matching.aji_union == np.count_nonzero(true)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32, np.int64, bool])
def test_array_types_and_memory_orders(dtype):
    true = rectangle(10, 0)
    expected = match_instances(true, rectangle(10, 2))
    for pred in (np.asfortranarray(rectangle(10, 2).astype(dtype)), torch.from_numpy(rectangle(10, 2).astype(dtype))):
        for a, b in zip(match_instances(torch.from_numpy(true), pred), expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_empty_images():
    empty, full = np.zeros((2, 3), dtype=int), np.ones((2, 3), dtype=int)
    nothing, missed, invented = (match_instances(*p) for p in ((empty, empty), (full, empty), (empty, full)))
    assert (nothing.n_true, nothing.n_pred, nothing.aji_union) == (0, 0, 0)
    assert (missed.fn[0], missed.fp[0], missed.aji_union) == (1, 0, 6)
    assert (invented.fn[0], invented.fp[0], invented.aji_union) == (0, 1, 6)
    assert nothing.tp.sum() == missed.tp.sum() == invented.tp.sum() == 0


@pytest.mark.parametrize(
    ("true", "pred", "message"),
    [
        (np.zeros((4, 5), int), np.zeros((5, 4), int), r"\(4, 5\) px and the predicted one \(5, 4\)"),
        (np.zeros((4, 5), int), torch.zeros((1, 4, 5), dtype=torch.long), r"predicted .* must have the shape \(H, W\)"),
        (np.zeros((0, 5), int), np.zeros((0, 5), int), r"true .* must have the shape \(H, W\)"),
        (np.zeros((4, 5)), np.zeros((4, 5), int), "true .* must hold integers, not float64"),
        (np.zeros((4, 5), int), np.full((4, 5), -1), "predicted .* negative number -1"),
        (np.full((4, 5), -1), np.zeros((4, 5), int), "true .* nothing is annotated"),
    ],
)
def test_what_cannot_be_compared_is_refused(true, pred, message):
    with pytest.raises(ValueError, match=message):
        match_instances(true, pred)


def test_what_is_not_annotated_is_not_counted():
    true = np.zeros((6, 20), int)
    true[1:5, 2:6], true[:, 10:] = 7, -1
    pred = np.zeros((6, 20), int)
    # One whose annotated half fits, with as much beyond; one mostly beyond; one wholly; and one that is wrong.
    pred[1:5, 2:6], pred[1:4, 8:12], pred[4:, 9:14], pred[2, 15] = 1, 2, 3, 4
    matching = match_instances(true, pred)
    assert (matching.n_true, matching.n_pred, matching.tp[9], matching.fp[0]) == (1, 2, 1, 1)
    assert matching.best_ious.tolist() == [1, 0] and matching.aji_union == 16 + 6
    known = slice(0, 10)
    cut = match_instances(true[:, known], np.where(pred == 3, 0, pred)[:, known])
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(matching, cut, strict=True))
    batch = SimpleNamespace(names=["a"], sizes=[(6, 20)], truths=[torch.from_numpy(true)], pixel_sizes=[None])
    (kept,) = predictions(batch, [(None, Instances.from_labels(pred, np.arange(4) / 4))])
    assert kept.instances.scores.tolist() == [0, 0.25] and kept.instances.labels.max() == 2


def test_thresholds_are_the_nearest_floats():
    assert THRESHOLDS.tolist() == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]


def test_5000_objects_take_little_more_memory_than_the_images():
    # 73 x 73 squares of 20 px, moved by 2 px: an IoU of 18 / 22, so a match at .50 ... .80.
    true = np.zeros((2048, 2048), dtype=np.int64)
    true[:2044, :2044] = np.kron(np.arange(73**2).reshape(73, 73) + 70_000, np.pad(np.ones((20, 20), int), 4))
    pred = np.roll(true, 2, axis=1)
    tracemalloc.start()
    matching = match_instances(true, pred)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert matching.tp.tolist() == [73**2] * 7 + [0] * 3
    # A table of all pairs would take more.
    assert peak < 150e6
