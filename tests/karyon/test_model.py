"""A model answers for images of any kind and size, in blocks as for the whole."""

import numpy as np
import pytest
import torch
from bundles import CARD, write_bundle, write_unet_bundle
from scipy import ndimage

from datamodules.sample import DataError, relabel
from karyon import load_model
from karyon.model import with_areas_at
from lightning_modules.blocks import Blockwise
from lightning_modules.instances import Instances, median_diameter
from lightning_modules.metrics import match_instances
from lightning_modules.representations.border import BorderDecoder


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
def test_objects_of_images_of_any_kind(model, dtype, channels):
    grey = discs(8, 16, 4)
    image = np.broadcast_to(grey.reshape(*grey.shape, *(1 for _ in channels)), (*grey.shape, *channels)).astype(dtype)
    found = model.segment(image)
    truth, count = ndimage.label(grey > 100)
    assert len(found) == count == 16 and (found.labels.numpy() == truth).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 5)])
def test_the_smallest_images(tmp_path, shape):
    write_unet_bundle(tmp_path)
    assert load_model(tmp_path).segment(np.ones(shape, np.uint8)).labels.shape == shape


@pytest.mark.parametrize("shape", [(4,), (2, 4, 4), (4, 4, 2), (0, 4), (1, 4, 4, 3)])
def test_shapes_that_are_no_image_are_one_sentence(model, shape):
    with pytest.raises(DataError, match=r"expected \(H, W\) or \(H, W, 3\)"):
        model.segment(np.zeros(shape))


def test_blocks_give_what_the_whole_gives(model):
    image = discs(8, 13, 10)[:117]
    whole = model.segment(image)
    model.blocks = Blockwise(block=64, halo=32)
    parts = model.segment(image)
    assert len(parts) == len(whole) == 90
    assert (relabel(parts.labels.numpy(), split=True) == relabel(whole.labels.numpy(), split=True)).all()


def test_the_diameter_brings_objects_to_the_models_scale(model, monkeypatch):
    seen = []
    maps_once = model.module.maps_once
    monkeypatch.setattr(model.module, "maps_once", lambda image: seen.append(image.shape[-1]) or maps_once(image))
    # The model's objects are 12 px wide.
    for diameter, side in ((24, 60), (6, 240), (4, 360)):
        image = discs(diameter, 40, 3)
        found = model.segment(image, diameter=diameter)
        assert seen.pop() == side and not seen
        # Outlines are drawn at the image's own size, not enlarged from another.
        truth = Instances.from_labels(torch.from_numpy(ndimage.label(image > 100)[0]))
        assert len(found) == 9 and match_instances(truth.labels, found.labels).tp[4] == 9


def test_the_diameter_is_estimated_and_small_objects_are_enlarged(model, monkeypatch):
    seen = []
    maps_once = model.module.maps_once
    monkeypatch.setattr(model.module, "maps_once", lambda image: seen.append(image.shape[-1]) or maps_once(image))
    for diameter, side in ((6, 240), (24, 120)):
        image = discs(diameter, 40, 3)
        found = model.segment(image, diameter="auto")
        assert found.labels.shape == image.shape and median_diameter(found) == pytest.approx(diameter, rel=0.15)
        # At first as it is, which is enough where shrinking would only lose.
        assert seen.pop(0) == 120 and seen == ([] if side == 120 else [pytest.approx(side, rel=0.1)])
        seen.clear()


@pytest.mark.parametrize("scale", [0.3, 2.0])
def test_at_another_scale_blocks_give_what_the_whole_gives(model, scale):
    diameter = 12 / scale
    image = discs(diameter, round(1.6 * diameter), 12)
    whole = model.segment(image, diameter=diameter)
    model.blocks = Blockwise(block=64, halo=32)
    parts = model.segment(image, diameter=diameter)
    assert len(parts) == len(whole) == 144
    matching = match_instances(whole.labels, parts.labels)
    # A block's rim need not lie on the grid of the other scale.
    assert matching.tp[8] == 144


def test_areas_are_those_of_the_models_scale():
    decoder = with_areas_at(2.0, BorderDecoder(min_area=20, min_seed_area=9, threshold=0.7))
    assert (decoder.min_area, decoder.min_seed_area, decoder.threshold) == (5, 2, 0.7)


def test_a_model_without_a_scale_says_so(tmp_path):
    write_bundle(tmp_path, object_diameter=None)
    with pytest.raises(DataError, match="names no object size"):
        load_model(tmp_path).segment(np.eye(4), diameter=5)
    write_bundle(tmp_path, preparation={**CARD.preparation, "image_size": [32, 32]})
    with pytest.raises(DataError, match="sees every image at one size"):
        load_model(tmp_path).segment(np.eye(4), diameter=5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_network_computes_in_the_precision_asked_for(tmp_path, precision):
    write_unet_bundle(tmp_path)
    model = load_model(tmp_path, device="cpu", precision=precision)
    types = []
    model.module.network.register_forward_hook(lambda module, given, output: types.append(output.dtype))
    model.segment(discs(8, 16, 2))
    assert types == [torch.bfloat16 if precision == "bf16" else torch.float32]


def test_test_time_augmentation_looks_eight_times(tmp_path):
    write_unet_bundle(tmp_path)
    model = load_model(tmp_path, tta=True)
    calls = []
    model.module.network.register_forward_hook(lambda *args: calls.append(1))
    model.segment(discs(8, 16, 2))
    assert len(calls) == 8
