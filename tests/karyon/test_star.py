import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from round_trip import Labels, nuclei, polygons
from scipy import ndimage
from skimage.draw import polygon
from torch.nn import functional

from karyon.errors import DataError
from karyon.inference.rotations import VIEWS, turn
from karyon.representations.star import polygons as polygons_module
from karyon.representations.star.loss import Star, encode
from karyon.representations.star.polygons import draw, highest, suppress
from karyon.representations.star.postprocessing import StarPostprocessing, candidates, directions


def encoded(labels: Labels, rays: int = 32) -> np.ndarray:
    return encode(torch.from_numpy(labels), rays).numpy()


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


@settings(max_examples=80)
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


@settings(max_examples=20)
@given(heap=heaps())
def test_the_highest_surpass_all_in_their_polygon_and_batches_are_decided_as_all_together(
    heap: tuple[np.ndarray, np.ndarray],
) -> None:
    image = np.random.default_rng(0).random((40, 40), dtype=np.float32)
    framed = np.pad(image, 30)
    masks = zip(plain_masks(*heap), heap[0], strict=True)
    surpassing = [framed[mask].max() == image[y, x] for mask, (y, x) in masks]
    assert highest(*heap, image).tolist() == surpassing
    survivors = suppress(*heap, 0.3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(polygons_module, "BATCH", 100)
        patch.setattr(polygons_module, "BLOCK", 500)
        assert highest(*heap, image).tolist() == surpassing
        assert np.array_equal(suppress(*heap, 0.3), survivors)


@settings(max_examples=40)
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


@pytest.mark.parametrize("rays", [4, 12])
@pytest.mark.parametrize("view", VIEWS)
def test_few_rays_turn_with_the_image(view: tuple[int, bool], rays: int) -> None:
    turned = encoded(np.ascontiguousarray(turn(nuclei(), *view)), rays)
    np.testing.assert_allclose(StarPostprocessing().turn_back(turned, *view), encoded(nuclei(), rays), atol=1e-5)


def test_loss_is_cross_entropy_and_weighted_absolute_error() -> None:
    labels = torch.from_numpy(nuclei(1, 32))
    output = torch.randn(1, 9, 32, 32, generator=torch.Generator().manual_seed(0))
    target = encode(labels, 8)
    entropy = functional.binary_cross_entropy(output[:, 0].sigmoid(), target[:, 0])
    error = (output[:, 1:] - target[:, 1:]).abs().mean(dim=1)
    expected = entropy + 2 * (error * target[:, 0]).sum() / target[:, 0].sum()
    torch.testing.assert_close(Star(8, distance_weight=2, background_weight=0).loss(output, labels), expected)
    # With distances of 3 px all over the background their mean is 3, whichever pixels are looked at.
    perfect = polygons(labels, 8)
    least = functional.binary_cross_entropy(target[:, 0], target[:, 0]).item()
    assert Star(8).loss(perfect, labels).item() == pytest.approx(least, abs=1e-4)
    perfect[:, 1:] += 3 * (labels == 0)
    loss = Star(8, distance_weight=2, background_weight=0.5).loss(perfect, labels)
    assert loss.item() == pytest.approx(least + 2 * 0.5 * 3, abs=1e-4)
    everywhere = torch.ones(1, 6, 5, dtype=torch.int64)
    assert Star().loss(torch.zeros(1, 33, 6, 5), everywhere).isfinite()


def test_garbage_takes_no_memory() -> None:
    rng = np.random.default_rng(0)
    flat = np.full((33, 80, 90), 1e6, np.float32)
    flat[0] = 0.7
    assert len(StarPostprocessing()(flat)) == 1
    noise = rng.random((33, 80, 90), dtype=np.float32) * 10
    noise[0] /= 10
    scores = StarPostprocessing()(noise).scores
    assert len(scores) > 1 and (np.diff(scores) <= 0).all()


def test_rays_are_a_multiple_of_four() -> None:
    for rays in (0, 6, 33):
        with pytest.raises(DataError, match="multiple of 4"):
            Star(rays)
