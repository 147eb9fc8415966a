"""The predictor, with engines that a test writes down: what the network is shown, and what becomes of its maps."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from round_trip import METHODS, Method, same_objects
from scipy import ndimage
from torch import nn

from karyon.inference import predictor as predictor_module
from karyon.inference.blocks import Blocks
from karyon.inference.engines import OnnxEngine, TorchEngine, available_cores, choose_device, torch_device
from karyon.inference.onnx_file import MapsNetwork, write_onnx
from karyon.inference.predictor import Predictor
from karyon.inference.rotations import VIEWS, turn, turn_back
from karyon.inference.views import View, areas_at
from karyon.networks.unet import UNet
from karyon.representations.border.postprocessing import BorderPostprocessing
from karyon.representations.flow.postprocessing import FlowPostprocessing
from karyon.representations.foreground.postprocessing import ForegroundPostprocessing
from karyon.representations.star.postprocessing import StarPostprocessing

Images = NDArray[np.float32]
FIND = ForegroundPostprocessing(min_area=1)


class Echo:
    """An engine whose maps a function makes of the images, by default the images; it remembers their shapes."""

    def __init__(self, maps: Callable[[Images], Images] = lambda images: images) -> None:
        self.make = maps
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, images: Images) -> Images:
        self.shapes.append(images.shape)
        return self.make(images)


def discs(diameter: float, side: int = 96, places: int = 3) -> Images:
    """An image (1, 1, side, side) that is 1 in discs, as a perfect network's maps would be, and 0 elsewhere."""
    pitch = side // places
    across = (np.arange(side) % pitch - pitch / 2 + 0.5) ** 2
    return (np.sqrt(across[:, None] + across) < diameter / 2).astype(np.float32)[None, None]


@given(st.integers(1, 7), st.integers(1, 7), st.sampled_from(VIEWS))
def test_turning_back_undoes_turning(height: int, width: int, view: tuple[int, bool]) -> None:
    image = np.arange(2 * height * width).reshape(1, 2, height, width)
    assert np.array_equal(turn_back(turn(image, *view), *view), image)


def test_the_views_are_the_eight_symmetries_of_the_square() -> None:
    square = np.arange(9).reshape(3, 3)
    assert len({tuple(turn(square, *view).ravel().tolist()) for view in VIEWS}) == 8


def test_rotations_are_averaged() -> None:
    def lopsided(images: Images) -> Images:
        return ndimage.correlate(images, np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3) / 36)

    images = np.random.default_rng(0).random((2, 1, 6, 9), dtype=np.float32)
    mean = np.zeros_like(images)
    for turns in range(4):
        seen = np.rot90(images, turns, (2, 3))
        mean += np.rot90(lopsided(seen), -turns, (2, 3)) / 8
        mean += np.rot90(lopsided(seen[..., ::-1])[..., ::-1], -turns, (2, 3)) / 8
    echo = Echo(lopsided)
    np.testing.assert_allclose(Predictor(echo, FIND, rotations=True).maps(images), mean, rtol=1e-5)
    assert sorted(echo.shapes) == [(2, 1, 6, 9)] * 4 + [(2, 1, 9, 6)] * 4
    assert not np.allclose(lopsided(images), mean)


def test_rotations_of_one_that_marks_a_corner_mark_all_four() -> None:
    def corner(images: Images) -> Images:
        marked = np.zeros_like(images)
        marked[..., 0, 0] = 1
        return marked

    maps = Predictor(Echo(corner), FIND, rotations=True).maps(np.zeros((1, 1, 3, 4), np.float32))
    assert maps[0, 0].tolist() == [[0.25, 0, 0, 0.25], [0, 0, 0, 0], [0.25, 0, 0, 0.25]]


def test_directions_turn_back_with_the_image() -> None:
    def downwards(images: Images) -> Images:
        return np.stack([np.ones_like(images[:, 0]), np.zeros_like(images[:, 0]), images[:, 0]], 1)

    maps = Predictor(Echo(downwards), FlowPostprocessing(), rotations=True).maps(discs(12))
    # One that says downwards in every view says nothing in the mean.
    assert np.abs(maps[:, :2]).max() < 1e-6 and np.array_equal(maps[:, 2:], discs(12))


def test_another_scale_is_looked_at_and_the_maps_come_back() -> None:
    echo, image = Echo(), discs(12)[..., :90]
    maps = Predictor(echo, FIND, rotations=True).maps(image, scale=2)
    assert set(echo.shapes) == {(1, 1, 192, 180), (1, 1, 180, 192)} and maps.shape == image.shape
    # Twice interpolated: only pixels along the edges change.
    assert np.abs(maps - image).mean() < 0.03


def test_lengths_in_maps_follow_the_scale() -> None:
    # At any scale it claims to see an edge 6 px away: seen twice as large, that is 3 px.
    echo = Echo(lambda images: np.concatenate([images, np.full((1, 4, *images.shape[2:]), 6, np.float32)], 1))
    maps = Predictor(echo, StarPostprocessing()).maps(discs(12), scale=2)
    np.testing.assert_allclose(maps[:, 1:], 3)


def test_areas_are_those_of_the_models_scale() -> None:
    found = areas_at(2.0, BorderPostprocessing(min_area=20, min_seed_area=9, threshold=0.7))
    assert (found.min_area, found.min_seed_area, found.threshold) == (5, 2, 0.7)
    # Discs of 113 px, and of 452 px where they are seen twice as large.
    predictor = Predictor(Echo(), ForegroundPostprocessing(min_area=300), model_diameter=24)
    for diameter, count in [(None, 0), (12, 9)]:
        assert len(predictor.predict(discs(12), [(96, 96)], ["a"], diameter)[0][1]) == count


@pytest.mark.parametrize(
    ("drawn", "diameter", "sides"),
    [
        # Three times as large at most, smaller too, and once where that is near enough.
        *((10, "auto", [96, 230]), (6, "auto", [96, 288]), (24, "auto", [96]), (30, "auto", [96])),
        *((12, None, [96]), (12, 12, [192]), (24, 48, [48])),
    ],
)
def test_objects_are_brought_to_the_models_scale(drawn: float, diameter: object, sides: list[int]) -> None:
    echo = Echo()
    predictor = Predictor(echo, FIND, model_diameter=24)
    [(probability, found)] = predictor.predict(discs(drawn), [(96, 96)], ["a"], diameter)
    # What was found is not exactly what was drawn.
    assert [shape[-1] for shape in echo.shapes] == pytest.approx(sides, rel=0.05)
    assert len(found) == 9 and found.labels.shape == (96, 96)
    assert probability is not None and np.abs(probability - discs(drawn)[0, 0]).mean() < 0.07


def test_large_objects_are_shrunk_to_the_models_scale() -> None:
    echo, image = Echo(), discs(120, side=480)
    [(_, found)] = Predictor(echo, FIND, model_diameter=24).predict(image, [(480, 480)], ["a"], "auto")
    assert [shape[-1] for shape in echo.shapes] == [480, pytest.approx(96, rel=0.05)] and len(found) == 9


@pytest.mark.parametrize("polarity", [False, True])
def test_the_polarity_in_which_objects_are_surer_is_taken(polarity: bool) -> None:
    # Discs cover more than half of the image: no median tells which of the two is background.
    image = 0.9 * discs(28)
    part = 1 - image if polarity else image
    predictor = Predictor(Echo(), FIND)
    view, found = predictor.look(lambda region: part[(0, slice(None), *region)], (96, 96), None, (False, True))
    assert view == View(inverted=polarity) and found is not None and len(found[1]) == 9


def test_each_image_of_a_batch_has_a_scale_of_its_own() -> None:
    echo = Echo()
    images = np.concatenate([discs(30), discs(6), np.zeros((1, 1, 96, 96), np.float32)])
    found = Predictor(echo, FIND, model_diameter=24).predict(images, [(96, 96)] * 3, ["a", "b", "c"], "auto")
    # Nothing found: smaller and larger views may show more; if not, nothing is known of its size.
    assert [shape[-1] for shape in echo.shapes] == [96, 96, 288, 96, 24, 192]
    assert [len(instances) for _, instances in found] == [9, 9, 0]


def test_of_a_large_image_the_middle_tells_the_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor_module, "FIRST_LOOK", 128)
    monkeypatch.setattr(predictor_module, "ENLARGED_LOOK", 256)
    image, echo = discs(12, side=256, places=8), Echo()
    # What is not in the middle is empty, but for less than the objects of which a median says something.
    image[..., :64], image[..., :64, :] = 0, 0
    [(_, found)] = Predictor(echo, FIND, model_diameter=24).predict(image, [(256, 256)], ["a"], "auto")
    # It is seen at both scales; in its own, which is taken, the discs are surer.
    assert [shape[-1] for shape in echo.shapes] == pytest.approx([128, 256, 256], rel=0.05)
    assert found.labels.shape == (256, 256) and len(found) == ndimage.label(image[0, 0])[1]


@pytest.mark.parametrize("diameter", [None, 24, 8, "auto"])
@pytest.mark.parametrize("rotations", [False, True])
def test_blocks_give_what_the_whole_gives(diameter: object, rotations: bool) -> None:
    # It sees 2 px to each side.
    engine = Echo(lambda images: ndimage.uniform_filter(images, (1, 1, 5, 3), mode="constant"))
    image = discs(10, side=200, places=10)[..., :170]
    whole, parts = (Predictor(engine, FIND, rotations, blocks, 12) for blocks in (None, Blocks(64, 32)))
    shares: list[float] = []
    size = image.shape[-2:]
    ((probability, found),) = whole.predict(image, [size], ["a"], diameter)
    view, _ = parts.look(lambda region: image[(0, slice(None), *region)], size, diameter)
    some, again = parts.find(lambda region: image[(0, slice(None), *region)], size, view, shares.append, True)
    assert some is not None and probability is not None and np.abs(some - probability).max() < 0.2
    assert len(found) == len(again) >= 80
    # A block's rim need not lie on the grid of another scale.
    assert diameter or (same_objects(found.labels, again.labels) and np.allclose(some, probability, atol=1e-5))
    assert shares == sorted(shares) and shares[0] == 0 and 0 < shares[-1] < 1


def test_objects_and_probability_come_back_at_the_original_size(refused: Any) -> None:
    images = np.concatenate([discs(20), discs(24)])
    predictor = Predictor(Echo(), FIND)
    for image, size, (probability, found) in zip(
        images, [(48, 48), (96, 192)], predictor.predict(images, [(48, 48), (96, 192)], ["a", "b"]), strict=True
    ):
        assert found.labels.shape == size and len(found) == 9
        assert probability is not None and probability.mean() == pytest.approx(image.mean(), abs=0.01)
        assert np.array_equal(found.labels > 0, probability >= 0.5)
    assert predictor.find(lambda region: images[(0, slice(None), *region)], (96, 96))[0] is None
    with refused("b was resized", "leave out image_size"):
        Predictor(Echo(), FIND, blocks=Blocks(64, 32)).predict(images, [(96, 96), (48, 48)], ["a", "b"])


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_onnx_runtime_and_torch_agree(method: Method, tmp_path: Path) -> None:
    torch.manual_seed(0)
    channels = method.output(torch.zeros(1, 4, 4, dtype=torch.int64)).shape[1]
    network = UNet(1, channels, (4, 8), (0.1, 0.1)).eval()
    # Logits on either side of 0.
    nn.init.normal_(network.output.weight, std=3)
    write_onnx(network, method.representation, tmp_path / "model.onnx", channels=1)
    engines = (
        TorchEngine(MapsNetwork(network, method.representation), torch.device("cpu")),
        OnnxEngine(tmp_path / "model.onnx"),
    )
    for shape in [(2, 1, 64, 96), (1, 1, 33, 50)]:
        images = np.random.default_rng(0).random(shape, dtype=np.float32)
        torchs, onnxs = (Predictor(engine, method.postprocessing()) for engine in engines)
        np.testing.assert_allclose(onnxs.maps(images), torchs.maps(images), atol=1e-5, rtol=1e-5)
        sizes, names = [shape[2:]] * len(images), ["a"] * len(images)
        for (_, found), (_, other) in zip(
            onnxs.predict(images, sizes, names), torchs.predict(images, sizes, names), strict=True
        ):
            assert same_objects(found.labels, other.labels)


def test_engines_that_cannot_be_used_are_one_sentence(tmp_path: Path, refused: Any) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    with refused("model.onnx cannot be read as an ONNX model"):
        OnnxEngine(tmp_path / "model.onnx")
    with refused("There is no device cuda:99 here"):
        torch_device("cuda:99")
    with refused("There is no device no-such here"):
        torch_device("no-such")
    assert choose_device("cuda:1") == "cuda:1" and choose_device("auto") in ("cpu", "cuda", "mps")


@pytest.mark.parametrize(
    ("asked", "cores"), [("3", 3), (" 2,1", 2), ("0", 1), ("all", None), ("-1", None), ("1.5", None)]
)
def test_the_number_of_threads_is_a_number(
    asked: str, cores: int | None, monkeypatch: pytest.MonkeyPatch, refused: Any
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    if cores:
        assert available_cores() == cores
    else:
        with refused(f"OMP_NUM_THREADS is {asked}: set it to a number of threads"):
            available_cores()


@pytest.mark.parametrize(("usual", "inverted"), [(None, False), (True, True), (False, False)])
def test_where_neither_polarity_shows_anything_what_is_usual_is_taken(usual: bool | None, inverted: bool) -> None:
    faint = 0.55 * discs(28)
    view, _ = Predictor(Echo(lambda images: images * (images < 0.6)), FIND).look(
        lambda region: faint[(0, slice(None), *region)], (96, 96), None, (False, True), usual=lambda: usual
    )
    assert view == View(inverted=inverted)


@pytest.mark.parametrize(
    ("name", "machine", "device", "fallback"),
    [
        ("auto", "arm64", "mps", "1"),
        ("auto", "x86_64", "cpu", None),
        ("mps", "x86_64", "mps", "1"),
        ("cpu", "arm64", "cpu", None),
    ],
)
def test_an_apple_gpu_is_taken_and_the_cpu_computes_what_it_cannot(monkeypatch, name, machine, device, fallback):
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("karyon.inference.engines._cuda_devices", lambda: 0)
    monkeypatch.setattr("os.environ", {})
    assert choose_device(name) == device and os.environ.get("PYTORCH_ENABLE_MPS_FALLBACK") == fallback
    # What the user has chosen stays.
    os.environ["PYTORCH_ENABLE_MPS_FALLBACK"] = "0"
    choose_device(name)
    assert os.environ["PYTORCH_ENABLE_MPS_FALLBACK"] == "0"
