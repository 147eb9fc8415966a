import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from label_pairs import label_pairs, several
from torchmetrics import MetricCollection

from karyon.metrics.instance import AggregatedJaccard, CountError, DSBScore, PanopticQuality, PooledAveragePrecision
from karyon.metrics.segmentation import segmentation_metrics

METRICS = [DSBScore, PooledAveragePrecision, PanopticQuality, AggregatedJaccard, CountError]
EMPTY = np.zeros((4, 6), dtype=np.int64)
FULL = np.ones((4, 6), dtype=np.int64)


def by_appearance(labels):
    """Numbers objects 1..N as they first appear, row by row."""
    ids, first = np.unique(labels, return_index=True)
    order = [k for _, k in sorted(zip(first, ids, strict=True)) if k != 0]
    return sum((number * (labels == k) for number, k in enumerate(order, 1)), np.zeros_like(labels))


def numbered_pairs():
    return label_pairs().map(lambda pair: tuple(map(by_appearance, pair)))


def score(metric, pairs, **names):
    for true, pred in pairs:
        metric.update(pred, true, **names)
    return {key: value.item() for key, value in metric.compute().items()}


def masks(labels):
    return [labels == k for k in np.unique(labels[labels > 0])]


def kaggle_score(true, pred):
    """The competition's score as its public kernels compute it, from a dense table and float thresholds."""
    true, pred = masks(true), masks(pred)
    if not true or not pred:
        return float(len(true) == len(pred))
    iou = np.array([[(t & p).sum() / (t | p).sum() for p in pred] for t in true])
    precisions = []
    for threshold in (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95):
        hits = iou > threshold
        tp = np.sum(hits.sum(axis=1) == 1)
        fp = np.sum(hits.sum(axis=0) == 0)
        fn = np.sum(hits.sum(axis=1) == 0)
        precisions.append(tp / (tp + fp + fn))
    return np.mean(precisions)


def kumar_index(true, pred):
    """Algorithm 1 of Kumar et al. 2017, line by line, with the authors' rule for an object that nothing touches."""
    correct, union, used = 0, 0, set()
    pred = masks(pred)
    for g in masks(true):
        best, best_index = None, 0.0
        for j, s in enumerate(pred):
            if (g & s).sum() / (g | s).sum() > best_index:
                best, best_index = j, (g & s).sum() / (g | s).sum()
        if best is None:
            union += g.sum()
            continue
        correct += (g & pred[best]).sum()
        union += (g | pred[best]).sum()
        used.add(best)
    for j, s in enumerate(pred):
        if j not in used:
            union += s.sum()
    return correct / union if union else 1.0


@given(several(numbered_pairs()))
def test_dsb_score_equals_the_dense_computation(pairs):
    assert score(DSBScore(), pairs)["dsb_score"] == pytest.approx(np.mean([kaggle_score(*pair) for pair in pairs]))


@given(several(numbered_pairs()))
def test_aggregated_jaccard_equals_the_papers_loops(pairs):
    assert score(AggregatedJaccard(), pairs)["aji"] == pytest.approx(np.mean([kumar_index(*pair) for pair in pairs]))


@pytest.mark.slow
@given(several(numbered_pairs().filter(lambda pair: pair[0].any() or pair[1].any())))
def test_pooled_precision_and_panoptic_quality_equal_stardist(pairs):
    from stardist.matching import matching_dataset

    thresholds = [k / 20 for k in range(10, 20)]
    theirs = matching_dataset(*zip(*pairs, strict=True), thresh=thresholds, show_progress=False)
    accuracy = [result.accuracy for result in theirs]
    expected = {"ap": np.mean(accuracy), **{f"ap{50 + 5 * k}": value for k, value in enumerate(accuracy)}}
    assert score(PooledAveragePrecision(), pairs) == pytest.approx(expected)

    # stardist's threshold is inclusive and its IoU float32: the next number above 0.5 makes it the paper's IoU > 0.5.
    above = float(np.nextafter(np.float32(0.5), np.float32(1)))
    result = matching_dataset(*zip(*pairs, strict=True), thresh=above, show_progress=False)
    expected = {"pq": result.panoptic_quality, "sq": result.mean_matched_score, "rq": result.f1}
    assert score(PanopticQuality(), pairs) == pytest.approx(expected)


@given(numbered_pairs(), st.permutations(range(1, 5)), st.permutations(range(1, 5)))
def test_ids_do_not_matter(pair, true_order, pred_order):
    renumbered = np.array([0, *true_order])[pair[0]], np.array([0, *pred_order])[pair[1]]
    for metric in METRICS:
        assert score(metric(), [pair]) == score(metric(), [renumbered])


@given(several(numbered_pairs()))
def test_truth_against_itself_scores_exactly_1(pairs):
    same = [(true, true) for true, _ in pairs]
    for metric in METRICS[:4]:
        assert set(score(metric(), same).values()) == {1.0}
    assert score(CountError(), same)["count_error"] == 0


def test_iou_of_exactly_one_half():
    true, pred = np.array([[1, 1]]), np.array([[1, 0]])
    assert score(DSBScore(), [(true, pred)])["dsb_score"] == 0
    assert score(PanopticQuality(), [(true, pred)]) == {"pq": 0, "sq": 0, "rq": 0}
    assert score(PooledAveragePrecision(), [(true, pred)]) == pytest.approx(
        {"ap": 0.1, "ap50": 1} | dict.fromkeys((f"ap{threshold}" for threshold in range(55, 100, 5)), 0)
    )
    assert score(AggregatedJaccard(), [(true, pred)])["aji"] == 0.5


def test_count_error_is_absolute_and_bias_is_signed():
    one, two = np.array([[1, 0, 0]]), np.array([[1, 0, 2]])
    assert score(CountError(), [(one, two), (two, one), (one, EMPTY[:1, :3])]) == pytest.approx(
        {"count_error": 1.0, "count_bias": -1 / 3, "objects_found": 3, "objects_true": 4}
    )


@pytest.mark.parametrize("metric", METRICS[:4])
def test_empty_truth_and_empty_prediction(metric):
    assert set(score(metric(), [(EMPTY, EMPTY)]).values()) == {1.0}
    assert set(score(metric(), [(EMPTY, FULL)]).values()) == {0.0}
    assert set(score(metric(), [(FULL, EMPTY)]).values()) == {0.0}


def test_an_empty_image_counts_in_means_and_not_in_pools():
    pairs = [(EMPTY, EMPTY), (FULL, EMPTY)]
    assert score(DSBScore(), pairs)["dsb_score"] == score(AggregatedJaccard(), pairs)["aji"] == 0.5
    assert score(PooledAveragePrecision(), pairs)["ap"] == score(PanopticQuality(), pairs)["pq"] == 0


def test_figures_of_each_kind():
    metric = DSBScore()
    metric.update(FULL, FULL, name="a", image_type="fluorescence")
    metric.update(EMPTY, FULL, name="b", image_type="H&E stain ä")
    metric.update(EMPTY, FULL, name="c", image_type="fluorescence")
    metric.update(FULL, FULL, name="d")
    result = {key: value.item() for key, value in metric.compute().items()}
    assert result == {"dsb_score": 0.5, "dsb_score/fluorescence": 0.5, "dsb_score/H&E stain ä": 0.0}


def test_a_kind_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="at most 32 bytes"):
        DSBScore().update(FULL, FULL, image_type="x" * 33)


def test_an_image_seen_twice_counts_once_but_nameless_ones_always_count():
    assert score(CountError(), [(FULL, FULL)] * 3, name="a")["objects_true"] == 1
    assert score(CountError(), [(FULL, FULL)] * 3)["objects_true"] == 3


def test_nothing_is_reported_before_the_first_image():
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert DSBScore().compute() == {}


def test_reset_and_the_value_of_one_call():
    metric = DSBScore()
    assert metric(FULL, FULL, name="a")["dsb_score"] == 1
    assert metric(EMPTY, FULL, name="b")["dsb_score"] == 0
    assert metric.compute()["dsb_score"] == 0.5
    metric.reset()
    assert score(metric, [(FULL, EMPTY)])["dsb_score"] == 0


def test_a_collection_has_flat_keys():
    metrics = MetricCollection([metric() for metric in METRICS], prefix="val/")
    metrics.update(torch.from_numpy(FULL), torch.from_numpy(FULL), name="a", image_type="fluorescence")
    keys = ["dsb_score", "ap", "pq", "sq", "rq", "aji", *(f"ap{threshold}" for threshold in range(50, 100, 5))]
    keys += ["count_error", "count_bias", "objects_found", "objects_true"]
    assert set(metrics.compute()) == {f"val/{key}{image_type}" for key in keys for image_type in ("", "/fluorescence")}


@pytest.mark.parametrize("metrics", [MetricCollection([metric() for metric in METRICS]), segmentation_metrics("test/")])
def test_a_collection_scores_as_its_metrics_do_alone(metrics):
    metrics.update(FULL, FULL, name="a")
    metrics.update(EMPTY, FULL, name="b")
    metrics.compute()
    metrics.update(EMPTY, FULL, name="c")
    alone = [score(metric(), [(FULL, FULL), (FULL, EMPTY), (FULL, EMPTY)]) for metric in METRICS]
    together = {key.removeprefix("test/"): value.item() for key, value in metrics.compute().items()}
    assert together.items() >= {key: value for scores in alone for key, value in scores.items()}.items()
    metrics.reset()
    metrics.update(FULL, FULL, name="a")
    assert {value.item() for value in metrics.compute().values()} == {0.0, 1.0}
