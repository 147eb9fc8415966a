"""A model answers for images of any kind and size, in blocks as for the whole."""

import numpy as np
import pytest
from bundles import CARD, write_bundle, write_unet_bundle
from scipy import ndimage

from datamodules.sample import DataError, relabel
from karyon import load_model
from karyon.model import median_diameter
from lightning_modules.blocks import Blockwise


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
    maps = model.module.maps
    monkeypatch.setattr(model.module, "maps", lambda image: seen.append(image.shape) or maps(image))
    image = discs(24, 40, 3)
    assert len(model.segment(image, diameter=24)) == 9
    assert seen == [(1, 1, 60, 60)]
    found = model.segment(image, diameter="auto")
    assert found.labels.shape == image.shape and median_diameter(found) == pytest.approx(24, rel=0.1)
    # At first as it is, then at half the scale, at which they are as large as the model's.
    assert [shape[-1] for shape in seen[1:]] == [120, pytest.approx(60, abs=2)]


def test_a_model_without_a_scale_says_so(tmp_path):
    write_bundle(tmp_path, object_diameter=None)
    with pytest.raises(DataError, match="names no object size"):
        load_model(tmp_path).segment(np.eye(4), diameter=5)
    write_bundle(tmp_path, preparation={**CARD.preparation, "image_size": [32, 32]})
    with pytest.raises(DataError, match="sees every image at one size"):
        load_model(tmp_path).segment(np.eye(4), diameter=5)


def test_test_time_augmentation_looks_eight_times(tmp_path):
    write_unet_bundle(tmp_path)
    model = load_model(tmp_path, tta=True)
    calls = []
    model.module.network.register_forward_hook(lambda *args: calls.append(1))
    model.segment(discs(8, 16, 2))
    assert len(calls) == 8
