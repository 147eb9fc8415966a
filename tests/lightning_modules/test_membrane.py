import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.metrics import adapted_rand_error, variation_of_information

from lightning_modules.metrics import MembraneScores
from lightning_modules.metrics.membrane import thin_borders, v_rand_and_v_info
from lightning_modules.metrics.warping import warp

ERRORS = {"rand_error", "pixel_error", "warping_error"}
SCORES = {"v_rand", "v_info"}
FOUR = ndimage.generate_binary_structure(2, 1)
EIGHT = ndimage.generate_binary_structure(2, 2)


@st.composite
def label_pairs(draw, smallest=1):
    shape = draw(st.tuples(st.integers(smallest, 7), st.integers(smallest, 7)))
    labels = arrays(np.int64, shape, elements=st.integers(0, 3))
    return draw(labels), draw(labels)


def grid(cells=3, width=10, membrane=2):
    """Square cells, ``width`` px wide, with membrane between them and around them."""
    cell = np.pad(np.ones((width, width), dtype=np.int64), (membrane, 0))
    labels = np.kron(np.arange(1, cells**2 + 1).reshape(cells, cells), np.ones_like(cell)) * np.tile(cell, (cells,) * 2)
    return np.pad(labels, (0, membrane))


def noisy(labels, seed):
    """A cell probability as a network might predict it: a blurred truth, with holes in some membranes."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=labels.shape), 1)
    blurred = ndimage.gaussian_filter((labels > 0).astype(np.float32), 0.7)
    return np.clip(blurred + 0.5 * noise, 0, 1).astype(np.float32)


def score(*slices, threshold=0.5):
    """The metric's figures for slices of true labels and cell probability."""
    metric = MembraneScores(threshold)
    for true, probability in slices:
        metric.update(np.asarray(probability, dtype=np.float32), true)
    return {key: value.item() for key, value in metric.compute().items()}


def own_segments(labels):
    """Gives each pixel without a label one of its own."""
    return np.where(labels > 0, labels, labels.max() + 1 + np.arange(labels.size).reshape(labels.shape))


def rand_of_pairs(cells, segments):
    """V_rand from all ordered pairs of pixels, each with itself too: the F-score of "both are in one segment"."""
    inside = cells > 0
    true, pred = cells[inside], own_segments(segments)[inside]
    same_true, same_pred = true[:, None] == true, pred[:, None] == pred
    return 2 * np.sum(same_true & same_pred) / (np.sum(same_true) + np.sum(same_pred))


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
    assert v_rand == pytest.approx(rand_of_pairs(cells, segments))
    both = np.stack([cells[cells > 0], own_segments(segments)[cells > 0]])
    h_true, h_pred = entropy(both[0]), entropy(both[1])
    mutual = 2 * (h_true + h_pred - entropy(both))
    assert v_info == pytest.approx(mutual / (h_true + h_pred) if h_true + h_pred else 1, abs=1e-9)


def check_against_skimage(cells, probability):
    """Compares V_info and the Rand error at .5 with scikit-image's figures, which V_rand nearly equals, too."""
    proposal = probability > 0.5
    segments = own_segments(ndimage.label(proposal, FOUR)[0])
    thinned = own_segments(thin_borders(ndimage.label(proposal, FOUR)[0]))
    result = score((cells, probability))
    assert result["rand_error_fixed"] == pytest.approx(adapted_rand_error(cells, segments)[0], abs=1e-6)
    # scikit-image leaves out the pair of each pixel with itself.
    assert result["v_rand_fixed"] == pytest.approx(1 - adapted_rand_error(cells, thinned)[0], abs=1e-3)
    inside = cells > 0
    differing = sum(variation_of_information(cells[inside][None], thinned[inside][None]))
    entropies = entropy(cells[inside][None]) + entropy(thinned[inside][None])
    assert result["v_info_fixed"] == pytest.approx(1 - differing / entropies, abs=1e-6)
    return result


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_scikit_images(seed):
    cells = grid(cells=5, width=20)
    result = check_against_skimage(cells, noisy(cells, seed))
    assert 0.2 < result["v_rand_fixed"] < result["v_rand"] <= 1


@pytest.mark.real_data
def test_scores_of_real_slices(real_isbi2012):
    for index, labels in enumerate(tifffile.imread(real_isbi2012 / "train-labels.tif")[::10]):
        cells = ndimage.label(labels, FOUR)[0]
        result = check_against_skimage(cells, noisy(cells, index))
        assert 0 < result["v_rand_fixed"] < 1
        perfect = score((labels, labels > 0))
        assert {key: perfect[key] for key in SCORES | ERRORS} == dict.fromkeys(SCORES, 1) | dict.fromkeys(ERRORS, 0)


@given(label_pairs())
@settings(max_examples=30)
def test_a_perfect_prediction_is_perfect_at_every_threshold_below_1(pair):
    cells = (pair[0] > 0).astype(int)
    for threshold in (0, 0.3, 0.9):
        result = score((cells, cells), threshold=threshold)
        for key in SCORES | {f"{key}_fixed" for key in SCORES}:
            assert result[key] == 1
        for key in ERRORS | {f"{key}_fixed" for key in ERRORS}:
            assert result[key] == 0


def test_a_hole_of_one_pixel_merges_two_cells():
    true = np.array([[1, 1, 0, 2], [1, 1, 0, 2], [1, 1, 0, 2]])
    proposal = np.array([[1, 1, 0, 1], [1, 1, 1, 1], [1, 1, 0, 1]])
    result = score((true, proposal))
    # Cells of 6 and 3 px in one segment: squares of 36 and 9 against 81, pairs of 15 and 3 against 36.
    assert result["v_rand_fixed"] == result["v_rand"] == pytest.approx(2 * 45 / (45 + 81))
    assert result["rand_error_fixed"] == result["rand_error"] == pytest.approx(1 - 2 * 18 / (18 + 36))
    assert result["v_info_fixed"] == 0
    assert result["pixel_error"] == result["warping_error"] == pytest.approx(1 / 12)


def test_thinning_forgives_a_thick_membrane_but_the_rand_error_does_not():
    true = grid(membrane=1)
    thick = ndimage.binary_erosion(true > 0, EIGHT)
    result = score((true, thick))
    assert result["v_rand"] == result["v_info"] == 1
    assert result["warping_error"] == 0
    # Pixels in no segment are segments of one pixel: of each cell 8 * 8 of its 10 * 10 px remain.
    assert result["rand_error"] == pytest.approx(1 - 2 * 64 * 63 / (100 * 99 + 64 * 63))


@given(label_pairs(smallest=2))
def test_dams_part_what_was_apart_and_thinning_keeps_the_segments(pair):
    segments = ndimage.label(pair[0], FOUR)[0]
    thinned = thin_borders(segments)
    np.testing.assert_array_equal(thinned[segments > 0], segments[segments > 0])
    for a, b in ((thinned[1:], thinned[:-1]), (thinned[:, 1:], thinned[:, :-1])):
        assert np.all((a == b) | (a == 0) | (b == 0))


def test_dams_are_one_pixel_wide_in_the_middle_of_the_membrane():
    for membrane in (1, 3, 5):
        thinned = thin_borders(grid(membrane=membrane))
        dams = np.flatnonzero(thinned[membrane + 5] == 0)
        np.testing.assert_array_equal(dams, [(10 + membrane) * k + membrane // 2 for k in (1, 2)])


def test_a_shifted_membrane_is_no_topological_error_but_a_gap_is():
    true = np.ones((12, 20), dtype=np.int64)
    true[:, 8:10] = 0
    shifted = np.roll(true, 1, axis=1)
    result = score((true, shifted))
    assert result["warping_error"] == 0
    assert result["pixel_error"] == pytest.approx(2 / 20)
    gap = true.copy()
    gap[3:6, 8:10] = 1
    result = score((true, gap))
    # Of the gap of 3 x 2 px, a membrane of one pixel's width remains.
    assert result["warping_error"] == pytest.approx(3 / 240)
    assert result["pixel_error"] == pytest.approx(6 / 240)


def euler(cells):
    """How many pieces of cell there are, 4-connected, and of membrane, 8-connected, with the one beyond the image."""
    padded = np.pad(cells, 1)
    return ndimage.label(padded, FOUR)[1], ndimage.label(~padded, EIGHT)[1]


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
        if euler(flipped) == euler(warped):
            assert local_pieces(flipped, pixel) != 1


def local_pieces(cells, pixel):
    """How many pieces of cell, 4-connected among the 8 neighbours, share an edge with a pixel."""
    y, x = pixel
    patch = np.pad(cells, 1)[y : y + 3, x : x + 3].copy()
    patch[1, 1] = False
    pieces = ndimage.label(patch, FOUR)[0]
    return len({pieces[0, 1], pieces[1, 0], pieces[1, 2], pieces[2, 1]} - {0})


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


def test_slices_without_cells_and_predictions_without_cells():
    cells, nothing = grid(), np.zeros_like(grid())
    assert score((nothing, noisy(cells, 0))).items() >= {"v_rand": 1.0, "v_info": 1.0, "rand_error": 0.0}.items()
    n = np.count_nonzero(cells)
    empty = score((cells, nothing))
    assert empty["v_rand"] == pytest.approx(2 * n / (n * 100 + n))
    assert empty["v_info"] == pytest.approx(2 * np.log(9) / (np.log(9) + np.log(n)))
    assert empty["rand_error"] == 1
    assert empty["pixel_error"] == pytest.approx(n / cells.size)
    full = score((cells, np.ones_like(cells)), threshold=0.2)
    assert full["v_rand_fixed"] == pytest.approx(2 * 9 / (9 + 81))
    assert full["v_info_fixed"] == 0


def test_cells_are_the_connected_pieces_of_equal_id():
    prediction = np.array([[1, 1, 1, 0, 1]])
    # Two pieces of one id are two cells; cells that touch are two although no membrane lies between them.
    assert score((np.array([[5, 5, 5, 0, 5]]), prediction))["v_rand"] == 1
    touching = score((np.array([[5, 5, 7, 0, 5]]), prediction))
    assert touching["v_rand_fixed"] == pytest.approx(2 * (4 + 1 + 1) / (4 + 1 + 1 + 9 + 1))


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
        metric.update((stack > 0).double(), stack, name="stack", kind="fly")
    metric.update(torch.ones(labels.shape), labels, name="bad")
    result = metric.compute()
    # Two good slices and one with one segment for 9 cells.
    assert result["v_rand"] == pytest.approx((2 + 0.2) / 3)
    assert result["v_rand/fly"] == 1
    assert set(result) == {f"{key}{kind}" for key in expected_keys() for kind in ("", "/fly")}
    assert all(value.dtype == torch.float32 and value.ndim == 0 for value in result.values())


def expected_keys():
    return SCORES | ERRORS | {f"{key}_fixed" for key in SCORES | ERRORS} | {f"{key}_threshold" for key in SCORES}


@pytest.mark.parametrize("threshold", [-0.1, 0.55, 1.1])
def test_thresholds_other_than_the_eleven_are_refused(threshold):
    for k in range(11):
        MembraneScores(0.1 * k)
    with pytest.raises(ValueError, match="must be one of 0"):
        MembraneScores(threshold)


@pytest.mark.parametrize(
    ("probability", "labels", "message"),
    [
        (np.full((4, 4), np.nan), np.ones((4, 4), int), "NaN"),
        (np.full((4, 4), -0.1), np.ones((4, 4), int), "not logits"),
        (np.full((4, 4), 1.1), np.ones((4, 4), int), "not logits"),
        (np.ones((4, 5)), np.ones((4, 4), int), r"shape \(4, 4\)"),
        (np.ones(4), np.ones(4, int), r"\(H, W\) or \(N, H, W\)"),
        (np.ones((0, 4)), np.ones((0, 4), int), r"\(H, W\) or \(N, H, W\)"),
        (np.ones((4, 4)), np.ones((4, 4)), "integers"),
        (np.ones((4, 4)), np.full((4, 4), -1), "negative"),
    ],
)
def test_bad_input_is_refused(probability, labels, message):
    metric = MembraneScores()
    with pytest.raises(ValueError, match=message):
        metric.update(probability, labels)
    assert metric.rows == []
