"""A model answers for images of any type and size, in blocks as for the whole."""

from typing import Any

import numpy as np
import pytest
import torch
from bundles import CARD, save, write_bundle, write_unet_bundle
from scipy import ndimage

from karyon import load_model
from karyon.inference.blocks import Blocks
from karyon.metrics.matching import match_instances
from karyon.networks.feature_pyramid import ResNetFPN
from karyon.networks.rcnn import MaskRCNN


class Recorder:
    """An engine that remembers how wide its images were."""

    def __init__(self, model: Any) -> None:
        self.engine, self.sides = model.predictor.engine, []
        model.predictor.engine = self

    def __call__(self, images):
        self.sides.append(images.shape[-1])
        return self.engine(images)


@pytest.fixture
def model(tmp_path):
    write_bundle(tmp_path)
    return load_model(tmp_path, device="cpu")


def discs(diameter, pitch, places):
    """A grey image of bright discs."""
    side = np.arange(pitch * places) % pitch - pitch / 2 + 0.5
    return (np.hypot(side[:, None], side) < diameter / 2).astype(np.uint8) * 200 + 20


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_objects_of_images_of_any_type(model, dtype, channels):
    grey = discs(8, 16, 4)
    image = np.broadcast_to(grey.reshape(*grey.shape, *(1 for _ in channels)), (*grey.shape, *channels)).astype(dtype)
    found = model.segment(image)
    truth, count = ndimage.label(grey > 100)
    assert len(found) == count == 16 and (found.labels == truth).all()


@pytest.mark.parametrize("onnx", [False, True])
def test_the_smallest_images(tmp_path, onnx):
    write_unet_bundle(tmp_path, onnx)
    model = load_model(tmp_path, device="cpu")
    assert ("ONNX" in model.device) == onnx
    for shape in [(1, 1), (1, 40), (40, 1), (3, 5)]:
        assert model.segment(np.ones(shape, np.uint8)).labels.shape == shape


@pytest.mark.parametrize("shape", [(4,), (2, 4, 4), (4, 4, 2), (0, 4), (1, 4, 4, 3)])
def test_shapes_that_are_no_image_are_one_sentence(model, shape, refused):
    with refused("expected (H, W) or (H, W, 3)"):
        model.segment(np.zeros(shape))


@pytest.mark.parametrize(
    ("drawn", "diameter", "sides"),
    [
        (24, 24, [60]),
        (4, 4, [360]),
        (5, "auto", [120, 310]),
        (37, "auto", [120, 39]),
        (7, "auto", [120]),
        (30, "auto", [120, 48]),
    ],
)
def test_the_diameter_brings_objects_to_the_models_scale(model, drawn, diameter, sides):
    # The model's objects are 12 px wide.
    seen, image = Recorder(model), discs(drawn, 40, 3)
    found = model.segment(image, diameter=diameter)
    assert seen.sides == pytest.approx(sides, rel=0.1)
    # Outlines are drawn at the image's own size, not enlarged from another.
    matching = match_instances(ndimage.label(image > 100)[0], found.labels)
    assert len(found) == 9 == matching.tp[4]


@pytest.mark.parametrize(("scale", "entry"), [(None, 9), (0.3, 8), (2.0, 8)])
def test_blocks_give_what_the_whole_gives(model, scale, entry):
    diameter = 12 / (scale or 1.5)
    image, scaled = discs(diameter, round(1.6 * diameter), 12), scale and diameter
    whole = model.segment(image, diameter=scaled)
    model.predictor.blocks = Blocks(block=64, halo=32)
    shares = []
    parts = model.segment(image, diameter=scaled, report=shares.append)
    assert len(parts) == len(whole) == 144 and shares == sorted(shares) and len(shares) > 1
    # A block's rim need not lie on the grid of the other scale.
    assert match_instances(whole.labels, parts.labels).tp[entry] == 144


@pytest.mark.parametrize("image_size", [None, [96, 96]])
@pytest.mark.parametrize("bright", [False, True])
def test_a_model_that_wants_dark_backgrounds_is_shown_one(tmp_path, image_size, bright):
    normalization = {"class_path": "karyon.preprocessing.PercentileNormalize", "init_args": {"dark_background": True}}
    preprocessing = {"channels": 1, "image_size": image_size, "normalization": normalization}
    write_bundle(tmp_path, preprocessing=preprocessing)
    model = load_model(tmp_path, device="cpu")
    # Three quarters of it are nuclei, of which some are dim.
    image = discs(15, 16, 6)
    image = 255 - image if bright else image
    answer = model.answer(image, diameter=None)
    assert answer.view.inverted == bright and len(answer.instances) == 36
    known = model.answer(image, diameter=None, background="bright" if bright else "dark")
    assert (known.instances.labels == answer.instances.labels).all() and known.view == answer.view


def test_a_model_without_a_scale_says_so(tmp_path, refused):
    for changes, message in [
        ({"object_diameter": None}, "names no object size"),
        ({"preprocessing": {**CARD.preprocessing, "image_size": [32, 32]}}, "sees every image at one size"),
    ]:
        write_bundle(tmp_path, **changes)
        model = load_model(tmp_path, device="cpu")
        assert model.segment(np.eye(4)).labels.shape == (4, 4)
        with refused(message):
            model.segment(np.eye(4), diameter=5)


def test_half_precision_is_near_to_single(tmp_path):
    write_unet_bundle(tmp_path, onnx=True)
    image = np.random.default_rng(0).random((1, 3, 32, 32), dtype=np.float32)
    single, half = (
        load_model(tmp_path, "cpu", precision=precision).predictor.maps(image) for precision in ("fp32", "bf16")
    )
    assert 0 < np.abs(half - single).max() < 0.02


def test_rotations_look_eight_times(tmp_path):
    write_unet_bundle(tmp_path)
    model = load_model(tmp_path, device="cpu", rotations=True)
    seen = Recorder(model)
    model.segment(discs(8, 16, 2)[:, :20], diameter=None)
    assert sorted(seen.sides) == [20] * 4 + [32] * 4


def test_a_detector_is_a_model_too(tmp_path, refused):
    torch.manual_seed(0)
    detector = {"proposals": 50, "detections": 20}
    weights = MaskRCNN(ResNetFPN(18, channels=8), **detector).state_dict()
    state = {f"network.{name}": value for name, value in weights.items()}
    backbone = {"class_path": "karyon.networks.feature_pyramid.ResNetFPN", "init_args": {"depth": 18, "channels": 8}}
    network = {"class_path": "karyon.networks.rcnn.MaskRCNN", "init_args": {"backbone": backbone, **detector}}
    postprocessing = {
        "class_path": "karyon.detection.postprocessing.MaskPostprocessing",
        "init_args": {"score_threshold": 0.0, "mask_threshold": 0.1},
    }
    preprocessing = {**CARD.preprocessing, "channels": 3}
    save(tmp_path, state, model={"network": network, "postprocessing": postprocessing}, preprocessing=preprocessing)
    model = load_model(tmp_path, device="cpu")
    image = discs(16, 32, 3)[:, :64]
    for diameter in (None, 24, "auto"):
        found = model.segment(image, diameter=diameter)
        assert found.labels.shape == (96, 64) and len(found) == found.labels.max() > 0
    with refused("does not average over rotations"):
        load_model(tmp_path, device="cpu", rotations=True)
