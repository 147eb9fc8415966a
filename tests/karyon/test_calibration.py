import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_calibration_error

from karyon.metrics.calibration import calibration_error, reliability

scored = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.9, 1.0]), st.booleans()), min_size=1, max_size=60)


def test_the_error_is_that_of_torchmetrics_where_groups_are_of_equal_width_too():
    rng = np.random.default_rng(0)
    scores = rng.permutation((np.arange(200) + 0.5) / 200)
    right = rng.random(200) < scores**2
    expected = binary_calibration_error(torch.from_numpy(scores), torch.from_numpy(right).long(), n_bins=10)
    assert expected > 0.1
    np.testing.assert_allclose(calibration_error(reliability(scores, right)), expected, rtol=1e-6)


@given(scored, st.integers(1, 12))
def test_groups_part_the_objects_by_score_and_equal_scores_stay_together(objects, groups):
    scores, right = (np.array(column) for column in zip(*objects, strict=True))
    curve = reliability(scores, right, groups)
    assert len(curve.total) <= groups
    assert (curve.total.sum(), curve.right.sum()) == (len(scores), right.sum())
    assert (curve.total > 0).all() and (np.diff(curve.score) > 0).all()
    np.testing.assert_allclose((curve.score * curve.total).sum(), scores.sum())
    # Sorted, each group is a run whose scores the next does not share.
    ends = np.cumsum(curve.total)[:-1]
    ordered = np.sort(scores)
    assert (ordered[ends - 1] < ordered[ends]).all()


@pytest.mark.parametrize("groups", [1, 10])
def test_constant_scores_are_one_group(groups):
    curve = reliability(np.ones(7), np.arange(7) < 3, groups)
    assert (curve.score.tolist(), curve.right.tolist(), curve.total.tolist()) == ([1.0], [3], [7])
