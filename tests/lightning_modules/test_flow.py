from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_cellpose import plain_flow, plain_masks
from round_trip import any_labels, mean_iou, nuclei, real_labels, same_objects, separate_ellipses, touching_discs
from scipy import ndimage
from torch.nn import functional

from lightning_modules.metrics import match_instances
from lightning_modules.representations.flow import SCALE, Flow, FlowDecoder, encode, flow_errors, follow, gather
from lightning_modules.representations.packing import pack
from lightning_modules.representations.threads import one_thread
from lightning_modules.symmetry import VIEWS, turn

EXACT = FlowDecoder(min_ends=1, min_area=1)


def output_of(labels: torch.Tensor) -> torch.Tensor:
    """What a network would say that is sure of it, (B, 3, H, W)."""
    target = encode(labels)
    return torch.cat([SCALE * target[:, :2], target[:, 2:] * 40 - 20], dim=1)


def maps(labels: torch.Tensor) -> torch.Tensor:
    return Flow().maps(output_of(labels[None]))[0]


def degrees_apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip((one * other).sum(axis=0), -1, 1)))


def test_flow_is_cellposes() -> None:
    labels = nuclei(2, 96)
    for image, target in zip(labels.numpy(), encode(labels).numpy(), strict=True):
        expected = plain_flow(image)
        there = np.hypot(*expected) > 0.5
        np.testing.assert_array_equal(target[2], image > 0)
        assert np.hypot(*target[:2])[there] == pytest.approx(1, abs=1e-3)
        assert not target[:2, image == 0].any()
        angle = degrees_apart(expected[:, there], target[:2, there])
        assert angle.mean() < 1.5
        assert np.quantile(angle, 0.99) < 10


def test_flow_of_a_disc_points_to_its_centre_and_that_of_a_bow_stays_in_it() -> None:
    rows, columns = np.mgrid[:41, :41] - 20
    disc = torch.from_numpy((np.hypot(rows, columns) < 18).astype(np.int64))
    straight = -np.stack([rows, columns]) / np.maximum(np.hypot(rows, columns), 1e-6)
    around = (disc.numpy() > 0) & (np.hypot(rows, columns) > 0)
    flow = encode(disc[None])[0, :2].numpy()
    angle = degrees_apart(flow[:, around], straight[:, around])
    assert angle.mean() < 3 and angle.max() < 15
    assert np.abs(flow[:, 20, 20]).max() < 0.01
    # The centre of a bow is the pixel in its middle that is nearest to its centre of mass, which lies outside; the way
    # leads there along the bow.
    bow = (np.hypot(rows, columns) < 18) & (np.hypot(rows, columns) > 10) & (rows < 0)
    labels = torch.from_numpy(bow.astype(np.int64))
    ends = follow(encode(labels[None])[0, :2].numpy(), steps=200)
    assert np.abs(np.stack(np.divmod(ends[bow], 41)) - [[9], [20]]).max() <= 1
    assert same_objects(labels, EXACT(maps(labels)).labels)


@settings(max_examples=40, deadline=None)
@given(any_labels)
def test_anything_can_be_encoded_and_decoded(labels: torch.Tensor) -> None:
    target = encode(labels[None])[0]
    assert torch.equal(target[2] > 0, labels > 0)
    assert target.isfinite().all() and (target[:2].norm(dim=0) <= 1 + 1e-6).all()
    instances = EXACT(target)
    assert not instances.labels[labels == 0].any()
    assert len(instances.scores) == instances.labels.max()


@settings(max_examples=30, deadline=None)
@given(separate_ellipses())
def test_separate_objects_come_back(labels: torch.Tensor) -> None:
    assert same_objects(labels, EXACT(maps(labels)).labels)


def test_touching_objects_come_back() -> None:
    instances = FlowDecoder()(maps(touching_discs()))
    assert same_objects(touching_discs(), instances.labels)
    assert instances.scores.tolist() == pytest.approx([1] * 6)


def test_specks_holes_and_full_images() -> None:
    labels = torch.zeros(20, 24, dtype=torch.int64)
    labels[2:15, 2:15] = 1
    labels[4, 11] = 0
    labels[18, 18] = 2
    assert torch.equal(EXACT(maps(labels)).labels, labels)
    assert torch.equal(FlowDecoder()(maps(labels)).labels, labels * (labels == 1))
    assert len(FlowDecoder()(maps(torch.zeros(5, 6, dtype=torch.int64)))) == 0
    everywhere = torch.full((9, 7), 3)
    assert (FlowDecoder()(maps(everywhere)).labels == 1).all()


@pytest.mark.real_data
def test_real_objects_come_back(real_dsb2018: Path, real_cache_dir: Path) -> None:
    labels = real_labels(real_dsb2018, real_cache_dir, every=33)
    assert np.mean([mean_iou(image, FlowDecoder()(maps(image)).labels) for image in labels]) > 0.99


def blurred(labels: torch.Tensor, sigma: float, noise: float) -> np.ndarray:
    """A flow (2, H, W) as uncertain as a network's."""
    rng = np.random.default_rng(0)
    flow = ndimage.gaussian_filter(encode(labels[None])[0, :2].numpy(), (0, sigma, sigma))
    grain = ndimage.gaussian_filter(rng.normal(size=flow.shape), (0, 2, 2))
    return (flow + noise * grain / grain.std()).astype(np.float32)


@pytest.mark.parametrize(("sigma", "noise"), [(0, 0), (1, 0.15)])
def test_decoder_agrees_with_cellposes(sigma: float, noise: float) -> None:
    agreed = objects = 0
    for labels in nuclei(6, 96):
        inside = labels.numpy() > 0
        flow = blurred(labels, sigma, noise)
        both = torch.from_numpy(np.concatenate([flow, inside[None]]).astype(np.float32))
        matching = match_instances(plain_masks(flow, inside), FlowDecoder(max_flow_error=0)(both).labels)
        # Entry 8 of the thresholds is an IoU of .9.
        agreed += matching.tp[8]
        objects += max(matching.n_true, matching.n_pred)
    assert agreed > 0.9 * objects


@given(any_labels, st.permutations(range(1, 5)))
def test_ids_are_names_only(labels: torch.Tensor, names: list[int]) -> None:
    renamed = torch.tensor([0, *names])[labels]
    torch.testing.assert_close(encode(labels[None]), encode(renamed[None]))


@pytest.mark.parametrize("view", VIEWS)
def test_maps_turn_with_the_image(view: tuple[int, bool]) -> None:
    labels = nuclei()
    turned = Flow().maps(output_of(turn(labels, *view)))
    torch.testing.assert_close(Flow().turn_back(turned, *view), Flow().maps(output_of(labels)), atol=5e-3, rtol=0)


def test_images_of_a_batch_do_not_know_of_each_other() -> None:
    labels = torch.cat([nuclei(2), touching_discs()[:, :64].repeat(2, 1)[None, :64]])
    # Objects of a class of sizes go on for as many steps as its largest needs, so that the angles differ a little.
    alone = torch.cat([encode(image[None]) for image in labels])
    assert (encode(labels) - alone).square().sum(dim=1).sqrt().mean() < 0.02
    assert torch.equal(encode(labels)[:, 2], alone[:, 2])


@given(st.lists(any_labels, min_size=1, max_size=3))
def test_packing_keeps_every_object_in_its_shape(images: list[torch.Tensor]) -> None:
    labels = torch.stack([functional.pad(image, (0, 40 - image.shape[1], 0, 40 - image.shape[0])) for image in images])
    labels[0, :, 36] = 7
    strips = list(pack(labels))
    assert torch.equal(torch.cat([strip.pixels for strip in strips]).sort().values, labels.flatten().nonzero()[:, 0])
    shapes = []
    for strip in strips:
        image = torch.zeros(strip.rows * strip.columns, dtype=torch.int64)
        image[strip.cells] = strip.objects + 1
        image = image.view(strip.rows, strip.columns)
        assert not image[[0, -1]].any() and not image[:, [0, -1]].any()
        for k in image[image > 0].unique():
            cells = (image == k).nonzero()
            top, left = cells.amin(dim=0) - 1
            bottom, right = cells.amax(dim=0) + 2
            assert image[top:bottom, left:right].unique().tolist() == [0, k.item()]
            shapes.append((cells - cells.amin(dim=0)).tolist())
            assert strip.side >= (cells.amax(dim=0) - cells.amin(dim=0)).amax() + 1
    expected = []
    for image in labels:
        for k in image[image > 0].unique():
            cells = (image == k).nonzero()
            expected.append((cells - cells.amin(dim=0)).tolist())
    assert sorted(shapes) == sorted(expected)


def test_targets_take_one_thread_and_give_the_others_back() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(ZeroDivisionError), one_thread():
            assert torch.get_num_threads() == 1
            raise ZeroDivisionError
        assert torch.get_num_threads() == 3
        encode(nuclei())
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
    labels = torch.zeros(30, 60, dtype=torch.int64)
    labels[3:27, 3:27] = 1
    labels[3:27, 33:57] = 2
    both = maps(labels)
    errors = flow_errors(labels.int().numpy(), both[:2])
    assert errors == pytest.approx([0, 0, 0], abs=1e-6)
    # The second object's flow circles around its centre: a right angle, whose sine and cosine are 1 and 0, is 2 away.
    both[:2, :, 30:] = torch.stack([both[1, :, 30:], -both[0, :, 30:]])
    assert flow_errors(labels.int().numpy(), both[:2]) == pytest.approx([0, 0, 2], abs=0.05)
    assert FlowDecoder(max_flow_error=0.4)(both).labels.unique().tolist() == [0, 1]
    assert FlowDecoder(max_flow_error=0)(both).labels[10, 45] > 0


def test_loss_is_cross_entropy_and_squared_error() -> None:
    labels = nuclei(1, 32)
    output = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    target = encode(labels)
    entropy = functional.binary_cross_entropy(output[:, 2].sigmoid(), (labels > 0).float())
    expected = entropy + 2 * ((output[:, :2] - 5 * target[:, :2]) ** 2).mean()
    torch.testing.assert_close(Flow(flow_weight=2).loss(output, labels), expected)
    assert Flow().loss(output_of(labels), labels).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("labels", [nuclei(), torch.zeros(2, 8, 9).long()], ids=["nuclei", "empty"])
def test_loss_is_finite_under_autocast_and_reaches_the_output(labels: torch.Tensor) -> None:
    output = torch.full((2, 3, *labels.shape[1:]), 30.0, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        loss = Flow().loss(output, labels)
    loss.backward()
    assert loss.isfinite() and loss.dtype == torch.float32
    assert output.grad is not None and output.grad.isfinite().all()
    assert output.grad.flatten(2).any(dim=2).all()


def test_the_least_loss_decodes_to_the_labels() -> None:
    labels = torch.stack([touching_discs(), touching_discs().flip(-1)])
    output = torch.zeros(2, 3, 40, 96, requires_grad=True)
    optimizer = torch.optim.Adam([output], lr=0.2)
    for _ in range(60):
        optimizer.zero_grad()
        Flow().loss(output, labels).backward()
        optimizer.step()
    for truth, image in zip(labels, Flow().maps(output), strict=True):
        assert mean_iou(truth, FlowDecoder()(image).labels) > 0.97


def test_resized_ways_lead_to_the_centre_of_the_resized_object() -> None:
    rows, columns = np.mgrid[:32, :32] - 15.5
    both = maps(torch.from_numpy((np.hypot(rows, columns) < 13).astype(np.int64)))
    for size in [(64, 64), (32, 96), (80, 40)]:
        resized = Flow().resize(both, size)
        assert resized.shape == (3, *size)
        y, x = np.mgrid[: size[0], : size[1]] - (np.array(size)[:, None, None] - 1) / 2
        middle = resized[2].numpy() > 0.99
        middle &= np.hypot(y, x) > 0.25 * min(size)
        length = np.hypot(*resized[:2].numpy())[middle]
        assert length == pytest.approx(1, abs=0.1)
        straight = -np.stack([y, x]) / np.hypot(y, x)
        angle = degrees_apart(resized[:2].numpy()[:, middle] / length, straight[:, middle])
        assert angle.mean() < 4 and angle.max() < 20
    assert torch.equal(FlowDecoder().probability(resized), resized[2])


def test_knobs_to_tune_are_arguments_whose_defaults_are_among_the_choices() -> None:
    for knob, choices in FlowDecoder.knobs.items():
        assert getattr(FlowDecoder(), knob) in choices
        assert list(choices) == sorted(choices)
