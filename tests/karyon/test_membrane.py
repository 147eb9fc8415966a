import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.metrics import adapted_rand_error
from skimage.segmentation import watershed

from karyon.metrics.membrane import MembraneScores
from karyon.metrics.membrane_curves import membrane_curves, thin_borders, v_rand_and_v_info
from karyon.metrics.warping import warp

ERRORS = ("rand_error", "pixel_error", "warping_error")
SCORES = ("v_rand", "v_info")
PERFECT = dict.fromkeys(SCORES, 1.0) | dict.fromkeys(ERRORS, 0.0)
KEYS = PERFECT.keys() | {f"{key}_fixed" for key in PERFECT} | {f"{key}_threshold" for key in SCORES}
FOUR, EIGHT = (ndimage.generate_binary_structure(2, connectivity) for connectivity in (1, 2))


@st.composite
def label_pairs(draw, smallest=1):
    shape = draw(st.tuples(st.integers(smallest, 9), st.integers(smallest, 9)))
    labels = arrays(np.int64, shape, elements=st.integers(0, 3))
    return draw(labels), draw(labels)


def grid(cells=3, width=10, membrane=2):
    """Square cells, ``width`` px wide, with membrane between them and around them."""
    cell = np.pad(np.ones((width, width), dtype=np.int64), (membrane, 0))
    labels = np.kron(np.arange(1, cells**2 + 1).reshape(cells, cells), np.ones_like(cell)) * np.tile(cell, (cells,) * 2)
    return np.pad(labels, (0, membrane))


def noisy(labels, seed):
    """A cell probability as a network might predict it: a blurred truth, with holes in some membranes."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=labels.shape), 1)
    blurred = ndimage.gaussian_filter((labels > 0).astype(np.float32), 0.7)
    return np.clip(blurred + 0.5 * noise, 0, 1).astype(np.float32)


def score(*slices, threshold=0.5):
    """The metric's figures for slices of true labels and cell probability."""
    metric = MembraneScores(threshold)
    for true, probability in slices:
        metric.update(np.asarray(probability, dtype=np.float32), np.asarray(true))
    return {key: value.item() for key, value in metric.compute().items()}


def own_segments(labels):
    """Gives each pixel without a label one of its own."""
    return np.where(labels > 0, labels, labels.max() + 1 + np.arange(labels.size).reshape(labels.shape))


def entropy(labels):
    p = np.unique(labels, return_counts=True, axis=-1)[1] / labels.shape[-1]
    return -np.sum(p * np.log2(p))


@given(label_pairs())
def test_scores_equal_their_definitions(pair):
    cells, segments = pair
    v_rand, v_info = v_rand_and_v_info(cells, segments)
    if not np.any(cells):
        assert (v_rand, v_info) == (1, 1)
        return
    # V_rand is the F-score of "both are in one segment" over all ordered pairs of pixels, each with itself too.
    both = np.stack([cells, own_segments(segments)])[:, cells > 0]
    same_true, same_pred = (ids[:, None] == ids for ids in both)
    assert v_rand == pytest.approx(2 * np.sum(same_true & same_pred) / (np.sum(same_true) + np.sum(same_pred)))
    h_true, h_pred = map(entropy, both)
    mutual = 2 * (h_true + h_pred - entropy(both))
    assert v_info == pytest.approx(mutual / (h_true + h_pred) if h_true + h_pred else 1, abs=1e-9)


def check_against_skimage(cells, probability):
    """Compares the figures at .5 with scikit-image's, whose watershed breaks ties of the flooding in another order."""
    segments = ndimage.label(probability > 0.5, FOUR)[0]
    thinned = watershed(np.zeros(cells.shape), segments, connectivity=1, watershed_line=True)
    result = score((cells, probability))
    assert result["rand_error_fixed"] == pytest.approx(adapted_rand_error(cells, own_segments(segments))[0], abs=1e-6)
    exact = v_rand_and_v_info(cells, thinned)
    assert (result["v_rand_fixed"], result["v_info_fixed"]) == pytest.approx(exact, abs=2e-4)
    assert 0 < result["v_rand_fixed"] < 1


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_scikit_images(seed):
    cells = grid(cells=5, width=20)
    check_against_skimage(cells, noisy(cells, seed))


@pytest.mark.real_data
def test_scores_of_real_slices(real_isbi2012):
    for index, labels in enumerate(tifffile.imread(real_isbi2012 / "train-labels.tif")[::10]):
        cells = ndimage.label(labels, FOUR)[0]
        check_against_skimage(cells, noisy(cells, index))
        assert score((labels, labels > 0)).items() >= PERFECT.items()


@given(label_pairs())
@settings(max_examples=30)
def test_a_perfect_prediction_is_perfect_at_every_threshold_below_1(pair):
    curves = membrane_curves(pair[0] > 0, pair[0] > 0)
    for key in SCORES:
        assert np.all(getattr(curves, key)[:-1] == 1)
    assert not np.any([curves.pixel_error[:-1], curves.warping_error[:-1]])
    np.testing.assert_array_equal(2 * curves.pairs_both[:-1], curves.pairs_either[:-1])


WALL = np.pad(np.zeros((12, 2), dtype=int), ((0, 0), (8, 10)), constant_values=1)
GAP = np.where(np.pad(np.ones((3, 2)), ((3, 6), (8, 10))), 1, WALL)
THIN = grid(membrane=1)
INSIDE = np.count_nonzero(grid())
KNOWN = {
    # Cells of 6 and 3 px in one segment: squares of 36 and 9 against 81, pairs of 15 and 3 against 36.
    "a hole of one pixel merges two cells": (
        [[1, 1, 0, 2], [1, 1, 0, 2], [1, 1, 0, 2]],
        [[1, 1, 0, 1], [1, 1, 1, 1], [1, 1, 0, 1]],
        (2 * 45 / 126, 0, 1 - 2 * 18 / 54, 1 / 12, 1 / 12),
    ),
    # Pixels in no segment are segments of one pixel: of each cell 8 * 8 of its 10 * 10 px remain.
    "thinning forgives a thick membrane, the Rand error does not": (
        THIN,
        ndimage.binary_erosion(THIN > 0, EIGHT),
        (1, 1, 1 - 2 * 64 * 63 / (100 * 99 + 64 * 63), 9 * 36 / THIN.size, 0),
    ),
    "a shift is no error of topology": (WALL, np.roll(WALL, 1, axis=1), (None, None, None, 2 / 20, 0)),
    # Of the gap of 3 x 2 px, a membrane of one pixel's width remains.
    "but a gap is": (WALL, GAP, (None, 0, None, 6 / 240, 3 / 240)),
    "no true cells": (0 * grid(), noisy(grid(), 0), (1, 1, 0, None, None)),
    # Warping leaves one pixel of each cell.
    "no predicted cells": (
        grid(),
        0 * grid(),
        (2 / 101, 2 * np.log(9) / np.log(9 * INSIDE), 1, INSIDE / grid().size, 9 / grid().size),
    ),
    "one segment for all cells": (grid(), 0 * grid() + 1, (2 * 9 / 90, 0, None, None, None)),
    "two pieces of one id are two cells": ([[5, 5, 5, 0, 5]], [[1, 1, 1, 0, 1]], (1, 1, 0, 0, 0)),
    "cells that touch are two": ([[5, 5, 7, 0, 5]], [[1, 1, 1, 0, 1]], (2 * 6 / 16, None, None, 0, 0)),
}


@pytest.mark.parametrize(("true", "proposal", "expected"), KNOWN.values(), ids=KNOWN)
def test_known_slices(true, proposal, expected):
    result = score((true, proposal))
    for key, value in zip(PERFECT, expected, strict=True):
        if value is not None:
            assert result[f"{key}_fixed"] == pytest.approx(value, rel=1e-6, abs=1e-7)
            assert result[key] >= result[f"{key}_fixed"] if key in SCORES else result[key] <= result[f"{key}_fixed"]


def test_all_thresholds_can_be_fixed_and_none_else():
    for k in range(11):
        result = score((grid(), grid() > 0), threshold=0.1 * k)
        assert (result["warping_error_fixed"] == 0) == (k < 10)
    assert result["warping_error_fixed"] == pytest.approx(9 / grid().size)
    for threshold in (-0.1, 0.55, 1.1):
        with pytest.raises(ValueError, match="must be one of 0"):
            MembraneScores(threshold)


@given(label_pairs())
def test_dams_are_where_segments_meet_and_thinning_keeps_the_segments(pair):
    segments = ndimage.label(pair[0], FOUR)[0]
    thinned = thin_borders(segments)
    np.testing.assert_array_equal(thinned[segments > 0], segments[segments > 0])
    padded = np.pad(thinned, 1)
    around = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    least, greatest = np.where(around > 0, around, 99).min(axis=0), around.max(axis=0)
    assert np.all((greatest <= thinned) & (least >= thinned) | (thinned == 0))
    # A dam has two segments beside it, or is shut off by dams from all.
    assert np.all((thinned > 0) | (least < greatest) | (greatest == 0))


@pytest.mark.parametrize("membrane", [1, 3, 5])
@pytest.mark.parametrize("width", [9, 10])
def test_dams_are_one_pixel_wide_in_the_middle_of_the_membrane(membrane, width):
    cells = grid(membrane=membrane, width=width)
    thinned = thin_borders(cells)
    dams = np.flatnonzero(thinned[membrane + 5] == 0)
    np.testing.assert_array_equal(dams, [(width + membrane) * k + membrane // 2 for k in (1, 2)])


def euler(cells):
    """How many pieces of cell there are, 4-connected, and of membrane, 8-connected, with the one beyond the image."""
    padded = np.pad(cells, 1)
    return ndimage.label(padded, FOUR)[1], ndimage.label(~padded, EIGHT)[1]


def local_pieces(cells, pixel):
    """How many pieces of cell, 4-connected among the 8 neighbours, share an edge with a pixel."""
    y, x = pixel
    patch = np.pad(cells, 1)[y : y + 3, x : x + 3].copy()
    patch[1, 1] = False
    pieces = ndimage.label(patch, FOUR)[0]
    return len({pieces[0, 1], pieces[1, 0], pieces[1, 2], pieces[2, 1]} - {0})


@given(arrays(bool, (9, 9)), arrays(bool, (9, 9)))
@settings(max_examples=200)
def test_warping_keeps_the_topology_and_leaves_no_pixel_that_could_be_flipped(cells, target):
    warped = warp(cells, target)
    assert euler(warped) == euler(cells)
    assert np.all((warped == cells) | (warped == target))
    for pixel in zip(*np.nonzero(warped != target), strict=True):
        flipped = warped.copy()
        flipped[pixel] = target[pixel]
        # A flip that keeps both counts can still be none of a simple point only where it merges and splits at once.
        assert euler(flipped) != euler(warped) or local_pieces(flipped, pixel) != 1


def test_the_best_threshold_is_common_to_all_slices_and_each_score_has_its_own():
    true = np.array([[1, 1, 0, 2, 2]])
    low, high = np.array([[0.9, 0.9, 0.25, 0.9, 0.9]]), np.array([[0.9, 0.9, 0.65, 0.9, 0.9]])
    apart = score((true, low), (true, high), threshold=0.3)
    assert apart["v_rand"] == apart["v_info"] == 1
    assert apart["v_rand_threshold"] == apart["v_info_threshold"] == pytest.approx(0.7)
    assert apart["v_rand_fixed"] == pytest.approx((1 + 2 / 3) / 2)
    assert apart["v_info_fixed"] == 0.5
    assert apart["pixel_error_fixed"] == pytest.approx(0.1)
    # No threshold separates both slices: one is right at .1 only, the other at .7 and .8.
    dark = np.array([[0.15, 0.15, 0.05, 0.15, 0.15]])
    assert score((true, dark), (true, high))["v_rand"] < 1
    assert score((true, dark))["v_rand"] == score((true, high))["v_rand"] == 1


def test_numbering_order_and_stacking_of_slices_do_not_matter():
    slices = [(grid(), noisy(grid(), seed)) for seed in range(3)]
    expected = score(*slices)
    assert 0 < expected["v_rand_fixed"] < 1
    renumbered = np.array([0, *np.random.default_rng(0).permutation(np.arange(1, 10)) * 7])
    assert score(*[(renumbered[true], probability) for true, probability in slices]) == expected
    assert score(*slices[::-1]) == expected
    assert score(tuple(np.stack(side) for side in zip(*slices, strict=True))) == expected


def test_a_slice_counts_once_by_its_name_and_kinds_are_reported():
    metric = MembraneScores()
    labels = torch.from_numpy(grid())
    stack = torch.stack([labels, labels])
    for _ in range(2):
        metric.update((stack > 0).double(), stack, name="stack", image_type="fly")
    metric.update(torch.ones(labels.shape), labels, name="bad")
    result = metric.compute()
    # Two good slices and one with one segment for 9 cells.
    assert result["v_rand"] == pytest.approx((2 + 0.2) / 3)
    assert result["v_rand/fly"] == 1
    assert set(result) == {f"{key}{image_type}" for key in KEYS for image_type in ("", "/fly")}
    assert all(value.dtype == torch.float32 and value.ndim == 0 for value in result.values())


ONES = np.ones((4, 4), dtype=int)


@pytest.mark.parametrize(
    ("probability", "labels", "message"),
    [
        (ONES * np.nan, ONES, "NaN"),
        (ONES * -0.1, ONES, "not logits"),
        (ONES * 1.1, ONES, "not logits"),
        (np.ones((4, 5)), ONES, r"shape \(4, 4\)"),
        (ONES[0], ONES[0], r"\(H, W\) or \(N, H, W\)"),
        (ONES[:0], ONES[:0], r"\(H, W\) or \(N, H, W\)"),
        (ONES, np.ones((4, 4)), "integers"),
        (ONES, -ONES, "negative"),
    ],
)
def test_bad_input_is_refused(probability, labels, message):
    metric = MembraneScores()
    with pytest.raises(ValueError, match=message):
        metric.update(probability, labels)
    assert metric.rows == []
