import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_cellpose import plain_flow, plain_masks
from round_trip import (
    METHODS,
    Labels,
    agreement,
    any_labels,
    nuclei,
    same_objects,
    separate_ellipses,
    touching_discs,
    uncertain,
)
from torch.nn import functional

from karyon.representations.flow.loss import Flow
from karyon.representations.flow.postprocessing import FlowPostprocessing, flow_errors, follow, gather
from karyon.representations.flow.ways import encode
from karyon.representations.one_thread import one_thread
from karyon.representations.strips import pack

maps = METHODS["flow"].maps


def degrees_apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip((one * other).sum(axis=0), -1, 1)))


def to_centre(size: tuple[int, int]) -> np.ndarray:
    """Ways (2, H, W) to the middle of an image, px."""
    return (np.array(size)[:, None, None] - 1) / 2 - np.mgrid[: size[0], : size[1]]


def test_flow_is_cellposes() -> None:
    labels = nuclei(2, 96)
    for image, target in zip(labels, encode(labels), strict=True):
        expected = plain_flow(image)
        there = np.hypot(*expected) > 0.5
        np.testing.assert_array_equal(target[2], image > 0)
        assert np.hypot(*target[:2])[there] == pytest.approx(1, abs=1e-3)
        assert not target[:2, image == 0].any()
        angle = degrees_apart(expected[:, there], target[:2, there])
        assert angle.mean() < 1.5 and np.quantile(angle, 0.99) < 10


@given(st.lists(any_labels, max_size=2))
def test_numpy_and_torch_find_the_same_ways(images: list[Labels]) -> None:
    small = [np.pad(image, [(0, 40 - side) for side in image.shape]) for image in images]
    labels = np.stack([*small, touching_discs()[:, 40:80]])
    ways = encode(labels)
    assert isinstance(ways, np.ndarray) and ways.dtype == np.float32
    assert (np.hypot(ways[:, 0], ways[:, 1]) <= 1 + 1e-6).all()
    np.testing.assert_allclose(encode(torch.from_numpy(labels)).numpy(), ways, atol=1e-5)


def test_flow_of_a_disc_points_to_its_centre_and_that_of_a_bow_stays_in_it() -> None:
    straight = to_centre((41, 41))
    radius = np.hypot(*straight)
    flow = encode((radius < 18).astype(np.int64)[None])[0, :2]
    around = (radius < 18) & (radius > 0)
    angle = degrees_apart(flow[:, around], straight[:, around] / radius[around])
    assert angle.mean() < 3 and angle.max() < 15
    assert np.abs(flow[:, 20, 20]).max() < 0.01
    # The centre of a bow is the pixel in its middle that is nearest to its centre of mass, which lies outside; the way
    # leads there along the bow.
    bow = (radius < 18) & (radius > 10) & (straight[0] > 0)
    labels = bow.astype(np.int64)
    ends = follow(encode(labels[None])[0, :2], steps=200)
    assert np.abs(np.stack(np.divmod(ends[bow], 41)) - [[9], [20]]).max() <= 1
    assert same_objects(labels, FlowPostprocessing()(maps(labels)).labels)


@pytest.mark.parametrize(("blur", "noise"), [(0, 0), (1, 0.15)])
def test_objects_agree_with_cellposes(blur: float, noise: float) -> None:
    counts = []
    for labels in nuclei(6, 96):
        found = uncertain("flow", labels, noise, blur)
        theirs = plain_masks(found[:2], found[2] > 0.5)
        counts.append(agreement(theirs, FlowPostprocessing(max_flow_error=0)(found).labels))
    agreed, objects = np.sum(counts, axis=0)
    assert agreed > 0.9 * objects


@given(st.lists(any_labels, min_size=1, max_size=3))
def test_packing_keeps_every_object_in_its_shape(images: list[Labels]) -> None:
    labels = np.stack([np.pad(image, [(0, 40 - side) for side in image.shape]) for image in images])
    labels[0, :, 36] = 7
    strips = list(pack(labels))
    assert np.array_equal(np.sort(np.concatenate([strip.pixels for strip in strips])), np.flatnonzero(labels))
    shapes = []
    for strip in strips:
        image = np.zeros(strip.rows * strip.columns, np.int64)
        image[strip.cells] = strip.objects + 1
        image = image.reshape(strip.rows, strip.columns)
        assert not image[[0, -1]].any() and not image[:, [0, -1]].any()
        for k in np.unique(image[image > 0]):
            cells = np.argwhere(image == k)
            (top, left), (bottom, right) = cells.min(0) - 1, cells.max(0) + 2
            assert np.unique(image[top:bottom, left:right]).tolist() == [0, k]
            shapes.append((cells - cells.min(0)).tolist())
            assert strip.side >= max(np.ptp(cells, 0)) + 1
    objects = [np.argwhere(image == k) for image in labels for k in np.unique(image[image > 0])]
    assert sorted(shapes) == sorted((cells - cells.min(0)).tolist() for cells in objects)


@given(separate_ellipses(), st.integers(1, 130))
def test_what_an_object_is_does_not_depend_on_others(labels: Labels, side: int) -> None:
    alone = encode(labels[None])[0]
    other = np.full((side, side), labels.max() + 1)
    beside = np.zeros((max(len(labels), side), labels.shape[1] + side + 1), labels.dtype)
    beside[: len(labels), : labels.shape[1]], beside[:side, labels.shape[1] + 1 :] = labels, other
    assert np.array_equal(encode(beside[None])[0, :, : len(labels), : labels.shape[1]], alone)


def test_targets_take_one_thread_and_give_the_others_back() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(ZeroDivisionError), one_thread():
            assert torch.get_num_threads() == 1
            raise ZeroDivisionError
        assert torch.get_num_threads() == 3
        Flow().loss(torch.zeros(2, 3, 64, 64), torch.from_numpy(nuclei()))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


def test_paths_follow_the_flow() -> None:
    flow = np.zeros((2, 30, 70), np.float32)
    flow[1, 10, :60] = 0.5
    flow[0, :, 64] = -1
    ends = follow(flow, steps=200)
    assert ends[10, 0] == 10 * 70 + 60
    assert ends[29, 64] == 64
    assert ends[3, 30] == 3 * 70 + 30
    assert follow(flow, steps=16)[10, 0] == 10 * 70 + 8
    assert follow(flow, steps=32)[10, 0] == 10 * 70 + 16


def test_places_are_joined_over_two_pixels_and_need_ends() -> None:
    ends = np.array([[0, 0, 3, 3, 3, 9, 9, 9, 9, 9]])
    inside = np.ones((1, 10), bool)
    assert gather(ends, inside).tolist() == [[1] * 5 + [2] * 5]
    assert gather(ends, inside, min_ends=3).tolist() == [[0, 0, 1, 1, 1] + [2] * 5]
    assert gather(ends, inside, min_ends=6).tolist() == [[0] * 10]


def test_objects_that_do_not_explain_their_flow_are_dropped() -> None:
    labels = np.zeros((30, 60), np.int32)
    labels[3:27, 3:27] = 1
    labels[3:27, 33:57] = 2
    both = maps(labels.astype(np.int64))
    assert flow_errors(labels, both[:2]) == pytest.approx([0, 0, 0], abs=1e-6)
    # The second object's flow circles around its centre: a right angle, whose sine and cosine are 1 and 0, is 2 away.
    both[:2, :, 30:] = np.stack([both[1, :, 30:], -both[0, :, 30:]])
    assert flow_errors(labels, both[:2]) == pytest.approx([0, 0, 2], abs=0.05)
    assert np.unique(FlowPostprocessing(max_flow_error=0.4)(both).labels).tolist() == [0, 1]
    assert FlowPostprocessing(max_flow_error=0)(both).labels[10, 45] > 0


def test_loss_is_cross_entropy_and_squared_error() -> None:
    labels = torch.from_numpy(nuclei(1, 32))
    output = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    target = encode(labels)
    entropy = functional.binary_cross_entropy(output[:, 2].sigmoid(), (labels > 0).float())
    expected = entropy + 2 * ((output[:, :2] - 5 * target[:, :2]) ** 2).mean()
    torch.testing.assert_close(Flow(flow_weight=2).loss(output, labels), expected)


@pytest.mark.parametrize("size", [(64, 64), (32, 96), (80, 40)])
def test_resized_ways_lead_to_the_centre_of_the_resized_object(size: tuple[int, int]) -> None:
    both = maps((np.hypot(*to_centre((32, 32))) < 13).astype(np.int64))
    resized = FlowPostprocessing().resize(both, size)
    straight = to_centre(size)
    distance = np.hypot(*straight)
    middle = (resized[2] > 0.99) & (distance > 0.25 * min(size))
    length = np.hypot(*resized[:2])[middle]
    assert length == pytest.approx(1, abs=0.1)
    angle = degrees_apart(resized[:2, middle] / length, straight[:, middle] / distance[middle])
    assert angle.mean() < 4 and angle.max() < 20
