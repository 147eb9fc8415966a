"""Two processes must report exactly what one process reports."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from launches import call_ranks, exit_codes

from karyon.instances import Instances
from karyon.labels import relabel
from karyon.metrics.coco import MaskMeanAveragePrecision
from karyon.metrics.membrane import MembraneScores
from karyon.metrics.per_image import MeanLoss
from karyon.metrics.segmentation import segmentation_metrics
from lightning_modules.callbacks.score_tables import of_all_processes

pytestmark = pytest.mark.slow

# The images that the first and the second process are given before each of their calls of compute().
ROUNDS = {
    "uneven": [([0, 1, 2, 3, 4], [5, 6])],
    # A DistributedSampler makes the shares equal by giving an image to both.
    "padded": [([0, 2, 4, 6], [1, 3, 5, 0])],
    "one process without images": [([0, 1, 2], [])],
    "computed in mid-epoch": [([0, 1], [2]), ([3, 4], [5, 0])],
}


def example(index):
    """True and predicted labels of an image, its cell probability, name and image_type."""
    rng = np.random.default_rng(index)
    true = np.kron(rng.permutation(64).reshape(8, 8) * rng.integers(0, 2, (8, 8)), np.ones((5, 5), dtype=int))
    pred = np.where(rng.random(true.shape) < 0.2, 0, np.roll(true, index % 2, axis=1))
    probability = np.clip((pred > 0) - rng.random(true.shape) / 2, 0, 1)
    return true, pred, probability, f"image {index}", ("", "fluorescence", "bright-field")[index % 3]


def add(metrics, indices):
    for index in indices:
        true, pred, probability, name, image_type = example(index)
        for metric, prediction in zip(metrics, (pred, probability), strict=True):
            metric.update(torch.from_numpy(prediction), torch.from_numpy(true), name=name, image_type=image_type)


def build():
    return segmentation_metrics("test/"), MembraneScores()


def compute(metrics):
    return {key: value for metric in metrics for key, value in metric.compute().items()}


def mask_map(indices):
    metric = MaskMeanAveragePrecision()
    for index in indices:
        true, pred = (relabel(image) for image in example(index)[:2])
        # Of equal scores the first image's would rank higher, and two processes have the images in another order.
        scores = np.random.default_rng(index).random(pred.max())
        metric.update(Instances.from_labels(pred, scores), true, name=example(index)[3])
    return metric.compute()


def mean_loss(indices):
    metric = MeanLoss()
    for index in indices:
        *_, name, image_type = example(index)
        metric.update(torch.rand((), generator=torch.Generator().manual_seed(index)), name=name, image_type=image_type)
    return metric.compute()


def evaluate(folder):
    """Scores the images as one of two processes and leaves what compute() said last."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    results = {}
    metrics = build()
    for case, rounds in ROUNDS.items():
        for shares in rounds:
            add(metrics, shares[rank])
            results[case] = compute(metrics)
        for metric in metrics:
            metric.reset()
    results["coco"] = mask_map(([0, 1], [2, 3])[rank])
    results["rows"] = of_all_processes({name: ((name, 1), []) for name in ("abc", "cd")[rank]})
    # Of three images the sampler gives one to both.
    results["padded coco"] = mask_map(([0, 2], [1, 0])[rank])
    results["loss"] = mean_loss(([0, 2], [1, 0])[rank])
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddp")
    assert exit_codes(call_ranks(evaluate, folder)) == [0, 0]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("case", ROUNDS)
def test_two_processes_report_what_one_reports(results, case):
    one = build()
    add(one, sorted({index for shares in ROUNDS[case] for share in shares for index in share}))
    expected = compute(one)
    assert 0 < expected["test/dsb_score"] < 1
    assert 0 < expected["v_rand"] < 1
    assert "test/dsb_score/fluorescence" in expected
    for result in results:
        assert result[case] == expected


@pytest.mark.parametrize(("case", "images"), [("coco", 4), ("padded coco", 3)])
def test_two_processes_rank_the_objects_of_both(results, case, images):
    expected = mask_map(range(images))
    assert 0 < expected["mask_map"] < 1
    for result in results:
        torch.testing.assert_close(result[case], expected)


def test_rows_of_two_processes_are_joined_and_an_image_given_to_both_stands_once(results):
    for result in results:
        assert result["rows"] == {name: ((name, 1), []) for name in "abcd"}
    assert of_all_processes({"a": (("a", 1), [])}) == {"a": (("a", 1), [])}


def test_two_processes_average_the_losses_of_all_images(results):
    expected = mean_loss(range(3))
    assert set(expected) == {"loss", "loss/fluorescence", "loss/bright-field"}
    for result in results:
        assert result["loss"] == expected
