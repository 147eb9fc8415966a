from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from round_trip import any_labels, mean_iou, nuclei, real_labels, separate_ellipses, touching_discs
from scipy import ndimage
from skimage.draw import polygon
from stardist.geometry import star_dist
from stardist.geometry.geom2d import polygons_to_label
from stardist.nms import non_maximum_suppression
from stardist.utils import edt_prob
from torch.nn import functional

from datamodules.sample import DataError
from lightning_modules.metrics import match_instances
from lightning_modules.representations import polygons as polygons_module
from lightning_modules.representations.polygons import draw, highest, suppress
from lightning_modules.representations.star import Star, StarDecoder, candidates, directions, encode
from lightning_modules.symmetry import VIEWS, turn

EXACT = StarDecoder(min_area=1)


def output_of(labels: torch.Tensor, rays: int = 32) -> torch.Tensor:
    """What a network would say that is sure of it, (B, 1 + R, H, W)."""
    target = encode(labels, rays)
    return torch.cat([target[:, :1].logit(eps=1e-7), target[:, 1:]], dim=1)


def maps(labels: torch.Tensor, rays: int = 32) -> torch.Tensor:
    return Star(rays).maps(output_of(labels[None], rays))[0]


@settings(max_examples=60, deadline=None)
@given(any_labels, st.sampled_from([4, 8, 32, 64]))
def test_distances_are_stardists(labels: torch.Tensor, rays: int) -> None:
    expected = np.moveaxis(star_dist(labels.numpy().astype(np.uint16), rays), -1, 0)
    np.testing.assert_allclose(encode(labels[None], rays)[0, 1:].numpy(), expected, atol=1e-4)


def test_distances_in_nuclei_of_all_sizes_are_stardists() -> None:
    labels = torch.stack([*nuclei(1, 220), functional.pad(touching_discs(), (0, 124, 0, 180))])
    labels[1, 60:62] = 7
    labels[1, 70:] = 8
    for rays, tolerance in [(32, 1e-3), (20, 1.0)]:
        # Where a step ends halfway between two pixels StarDist's rounding errors decide, if there are 20 rays.
        for image, target in zip(labels, encode(labels, rays), strict=True):
            expected = np.moveaxis(star_dist(image.numpy().astype(np.uint16), rays), -1, 0)
            assert np.abs(target[1:].numpy() - expected).max() <= tolerance + 1e-3


def test_probability_is_close_to_stardists() -> None:
    for image, target in zip(nuclei(), encode(nuclei()), strict=True):
        difference = np.abs(target[0].numpy() - edt_prob(image.numpy()))[image > 0]
        assert difference.mean() < 0.03 and difference.max() < 0.15
        assert ndimage.maximum(target[0].numpy(), image.numpy(), range(1, image.max() + 1)) == pytest.approx(1)
        assert not target[:, image == 0].any()


@settings(max_examples=40, deadline=None)
@given(any_labels)
def test_anything_can_be_encoded_and_decoded(labels: torch.Tensor) -> None:
    both = maps(labels)
    assert both.isfinite().all()
    instances = EXACT(both)
    assert len(instances) == instances.labels.max()
    assert (instances.scores >= 0.5).all()
    assert bool(len(instances)) == bool(labels.any())


@settings(max_examples=30, deadline=None)
@given(separate_ellipses())
def test_separate_objects_come_back(labels: torch.Tensor) -> None:
    matching = match_instances(labels, EXACT(maps(labels)).labels)
    assert matching.n_true == matching.n_pred == matching.tp[4]


def test_touching_objects_come_back() -> None:
    instances = StarDecoder()(maps(touching_discs()))
    assert len(instances) == 6
    assert mean_iou(touching_discs(), instances.labels) > 0.94
    assert instances.scores.tolist() == pytest.approx([1] * 6)


def test_specks_come_back_and_holes_are_filled() -> None:
    labels = torch.zeros(20, 24, dtype=torch.int64)
    labels[2:15, 2:15] = 1
    labels[11, 4] = 0
    labels[18, 18] = 2
    labels[18, 19] = 3
    decoded = EXACT(maps(labels)).labels
    assert len({decoded[18, 18].item(), decoded[18, 19].item(), decoded[8, 8].item(), 0}) == 4
    assert (decoded[2:15, 2:15] > 0).float().mean() > 0.95
    assert StarDecoder()(maps(labels)).labels.unique().tolist() == [0, 1]
    assert len(StarDecoder()(maps(torch.zeros(5, 6, dtype=torch.int64)))) == 0
    assert (EXACT(maps(torch.full((9, 9), 3))).labels == 1).float().mean() > 0.9


@pytest.mark.real_data
def test_real_objects_come_back(real_dsb2018: Path, real_cache_dir: Path) -> None:
    labels = real_labels(real_dsb2018, real_cache_dir, every=33)
    assert np.mean([mean_iou(image, StarDecoder()(maps(image)).labels) for image in labels]) > 0.9


def uncertain(labels: torch.Tensor, noise: float) -> torch.Tensor:
    """Maps as uncertain as a network's."""
    rng = np.random.default_rng(0)
    grain = ndimage.gaussian_filter(rng.normal(size=(33, *labels.shape)), (0, 2, 2))
    grain = torch.from_numpy(noise * grain / grain.std()).float()
    sure = maps(labels)
    return torch.cat([(sure[:1].logit(eps=0.02) + 4 * grain[:1]).sigmoid(), sure[1:] * grain[1:].exp()])


@pytest.mark.parametrize("noise", [0, 0.1])
def test_decoder_agrees_with_stardists(noise: float) -> None:
    agreed = objects = 0
    for labels in nuclei(6, 128):
        both = uncertain(labels, noise)
        probability, distances = both[0].numpy(), both[1:].permute(1, 2, 0).numpy()
        # Only from 2 px off the edges StarDist looks for objects unless told otherwise.
        points, scores, chosen = non_maximum_suppression(
            distances, probability, b=None, nms_thresh=0.4, prob_thresh=0.5
        )
        theirs = polygons_to_label(chosen, points, probability.shape, prob=scores)
        matching = match_instances(theirs, EXACT(both).labels)
        # Entry 8 of the thresholds is an IoU of .9.
        agreed += matching.tp[8]
        objects += max(matching.n_true, matching.n_pred)
    assert agreed > 0.95 * objects


@st.composite
def heaps(draw_: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Up to 25 polygons on top of each other."""
    rng = np.random.default_rng(draw_(st.integers(0, 2**32 - 1)))
    count, rays = draw_(st.integers(0, 25)), draw_(st.sampled_from([4, 8, 32]))
    points = rng.integers(0, draw_(st.integers(1, 40)), (count, 2))
    return points, (rng.uniform(0, draw_(st.floats(0.5, 20)), (count, rays))).astype(np.float32)


def plain_masks(points: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Masks (n, 100, 100) of polygons, the image's origin at (-30, -30)."""
    masks = np.zeros((len(points), 100, 100), bool)
    dy, dx = np.array(directions(distances.shape[1])).T
    for mask, (y, x), lengths in zip(masks, points + 30, distances, strict=True):
        mask[polygon(y + lengths * dy, x + lengths * dx, mask.shape)] = True
        # By the rule of the library a centre may lie outside of a polygon that is thinner than its precision.
        mask[y, x] = True
    return masks


@settings(max_examples=80, deadline=None)
@given(heaps(), st.floats(0, 1))
def test_suppression_is_the_greedy_one(heap: tuple[np.ndarray, np.ndarray], overlap: float) -> None:
    masks = plain_masks(*heap)
    expected: list[int] = []
    for k, mask in enumerate(masks):
        shared = [(mask & masks[j]).sum() / min(mask.sum(), masks[j].sum()) for j in expected]
        if all(share <= overlap for share in shared):
            expected.append(k)
    assert suppress(*heap, overlap).tolist() == expected
    labels = np.zeros((100, 100), int)
    for k in reversed(range(len(masks))):
        labels[masks[k]] = k + 1
    assert np.array_equal(draw(*heap, (50, 60)), labels[30:80, 30:90])


@settings(max_examples=20, deadline=None)
@given(heap=heaps())
def test_batches_are_decided_as_all_together(heap: tuple[np.ndarray, np.ndarray]) -> None:
    image = np.random.default_rng(0).random((40, 40), dtype=np.float32)
    together = suppress(*heap, 0.3), highest(*heap, image)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(polygons_module, "BATCH", 100)
        patch.setattr(polygons_module, "BLOCK", 500)
        assert np.array_equal(suppress(*heap, 0.3), together[0])
        assert np.array_equal(highest(*heap, image), together[1])


@settings(max_examples=20, deadline=None)
@given(heap=heaps())
def test_the_highest_surpass_all_in_their_polygon(heap: tuple[np.ndarray, np.ndarray]) -> None:
    points, _ = heap
    image = np.random.default_rng(0).random((40, 40), dtype=np.float32)
    framed = np.pad(image, 30)
    expected = [framed[mask].max() == image[y, x] for mask, (y, x) in zip(plain_masks(*heap), points, strict=True)]
    assert highest(*heap, image).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_candidates_are_hilltops_and_few(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    probability = rng.integers(0, 6, (9, 11)).astype(np.float32) / 5
    wide, narrow = np.full((8, 9, 11), 3, np.float32), np.full((8, 9, 11), 0.6, np.float32)
    # Within polygons of less than a pixel there is no neighbour.
    assert len(candidates(probability, narrow, threshold)[0]) == (probability >= threshold).sum()
    rows, columns = candidates(probability, wide, threshold)[0].T
    hill = ndimage.maximum_filter(probability, 3, mode="constant") == probability
    assert (hill & (probability >= threshold))[rows, columns].all()
    # Of each plateau without a higher neighbour one candidate is left at least, and no two are neighbours.
    for height in np.unique(probability[probability >= threshold]):
        plateaus, count = ndimage.label(probability == height, structure=np.ones((3, 3)))
        summits = set(range(1, count + 1)) - set(plateaus[~hill].tolist())
        assert summits <= set(plateaus[rows, columns].tolist())
    steps = np.abs(rows[:, None] - rows) + np.abs(columns[:, None] - columns) * 1j
    assert (np.maximum(steps.real, steps.imag) + 9 * np.eye(len(rows)) > 1).all()


@given(any_labels, st.permutations(range(1, 5)))
def test_ids_are_names_only(labels: torch.Tensor, names: list[int]) -> None:
    renamed = torch.tensor([0, *names])[labels]
    assert torch.equal(encode(labels[None], 8), encode(renamed[None], 8))


@pytest.mark.parametrize("rays", [4, 12, 32])
@pytest.mark.parametrize("view", VIEWS)
def test_maps_turn_with_the_image(view: tuple[int, bool], rays: int) -> None:
    labels = nuclei()
    turned = Star(rays).maps(output_of(turn(labels, *view), rays))
    torch.testing.assert_close(Star(rays).turn_back(turned, *view), Star(rays).maps(output_of(labels, rays)))


def test_each_image_has_objects_of_its_own() -> None:
    assert torch.equal(encode(nuclei()), torch.cat([encode(image[None]) for image in nuclei()]))


def test_loss_is_cross_entropy_and_weighted_absolute_error() -> None:
    labels = nuclei(1, 32)
    output = torch.randn(1, 9, 32, 32, generator=torch.Generator().manual_seed(0))
    target = encode(labels, 8)
    entropy = functional.binary_cross_entropy(output[:, 0].sigmoid(), target[:, 0])
    error = (output[:, 1:] - target[:, 1:]).abs().mean(dim=1)
    expected = entropy + 2 * (error * target[:, 0]).sum() / target[:, 0].sum()
    torch.testing.assert_close(Star(8, distance_weight=2, background_weight=0).loss(output, labels), expected)
    # With distances of 3 px all over the background their mean is 3, whichever pixels are looked at.
    perfect = output_of(labels, 8)
    perfect[:, 1:] += 3 * (labels == 0)
    least = functional.binary_cross_entropy(target[:, 0], target[:, 0]).item()
    assert Star(8).loss(output_of(labels, 8), labels).item() == pytest.approx(least, abs=1e-4)
    loss = Star(8, distance_weight=2, background_weight=0.5).loss(perfect, labels)
    assert loss.item() == pytest.approx(least + 2 * 0.5 * 3, abs=1e-4)


@pytest.mark.parametrize("labels", [nuclei(), torch.zeros(2, 18, 19).long()], ids=["nuclei", "empty"])
def test_loss_is_finite_under_autocast_and_reaches_the_output(labels: torch.Tensor) -> None:
    output = torch.full((2, 33, *labels.shape[1:]), 30.0, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        loss = Star().loss(output, labels)
    loss.backward()
    assert loss.isfinite() and loss.dtype == torch.float32
    assert output.grad is not None and output.grad.isfinite().all()
    assert output.grad.flatten(2).any(dim=2).all()
    everywhere = torch.ones(1, 6, 5, dtype=torch.int64)
    assert Star().loss(torch.zeros(1, 33, 6, 5), everywhere).isfinite()


def test_the_least_loss_decodes_to_the_labels() -> None:
    labels = torch.stack([touching_discs(), touching_discs().flip(-1)])
    output = torch.zeros(2, 33, 40, 96, requires_grad=True)
    optimizer = torch.optim.Adam([output], lr=0.3)
    for _ in range(100):
        optimizer.zero_grad()
        Star().loss(output, labels).backward()
        optimizer.step()
    for truth, image in zip(labels, Star().maps(output), strict=True):
        assert mean_iou(truth, StarDecoder()(image).labels) > 0.9


@pytest.mark.parametrize("size", [(64, 64), (32, 96), (80, 40), (16, 32)])
def test_resized_polygons_are_those_of_the_resized_object(size: tuple[int, int]) -> None:
    rows, columns = np.mgrid[:32, :32] - 15.5
    ellipse = (rows + 0.6 * columns) ** 2 / 9**2 + columns**2 / 11**2 < 1
    resized = Star().resize(maps(torch.from_numpy(ellipse.astype(np.int64))), size)
    assert resized.shape == (33, *size)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    y, x = y * 32 / size[0] - 16, x * 32 / size[1] - 16
    expected = (y + 0.6 * x) ** 2 / 9**2 + x**2 / 11**2 < 1
    decoded = StarDecoder()(resized)
    assert len(decoded) == 1
    assert mean_iou(torch.from_numpy(expected.astype(np.int64)), decoded.labels) > 0.92
    assert torch.equal(StarDecoder().probability(resized), resized[0])


def test_garbage_takes_no_time_and_no_memory() -> None:
    rng = np.random.default_rng(0)
    flat = np.full((33, 80, 90), 1e6, np.float32)
    flat[0] = 0.7
    assert len(StarDecoder()(torch.from_numpy(flat))) == 1
    noise = rng.random((33, 80, 90), dtype=np.float32) * 10
    noise[0] /= 10
    instances = StarDecoder()(torch.from_numpy(noise))
    assert instances.scores.tolist() == sorted(instances.scores.tolist(), reverse=True)


def test_rays_are_a_multiple_of_four() -> None:
    for rays in (0, 6, 33):
        with pytest.raises(DataError, match="multiple of 4"):
            Star(rays)


def test_knobs_to_tune_are_arguments_whose_defaults_are_among_the_choices() -> None:
    for knob, choices in StarDecoder.knobs.items():
        assert getattr(StarDecoder(), knob) in choices
        assert list(choices) == sorted(choices)
