"""The real ISBI 2012 stacks: the published facts, and content that is pinned to the pixel."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from datamodules.isbi2012 import ISBI2012DataModule

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def data(real_isbi2012: Path, tmp_path_factory: pytest.TempPathFactory) -> ISBI2012DataModule:
    data = ISBI2012DataModule(root=real_isbi2012, cache_dir=tmp_path_factory.mktemp("isbi"), num_workers=0)
    for stage in ("fit", "predict"):
        data.setup(stage)
    return data


def test_the_data_hold_the_published_facts(data: ISBI2012DataModule) -> None:
    assert {part: len(items) for part, items in data.items.items()} == {"train": 20, "val": 5, "test": 5, "predict": 30}
    annotated = [item.read() for part in ("train", "val", "test") for item in data.items[part]]
    for pixels, _ in annotated:
        assert pixels.shape == (512, 512) and pixels.dtype == np.uint8
    inside = np.mean([labels > 0 for _, labels in annotated])
    assert inside == pytest.approx(0.78, abs=0.005)
    for item in data.items["predict"]:
        pixels, labels = item.read()
        assert pixels.shape == (512, 512) and pixels.dtype == np.uint8 and labels is None


def test_sections_and_cells_are_those_of_the_files(data: ISBI2012DataModule, real_isbi2012: Path) -> None:
    volume = tifffile.imread(real_isbi2012 / "train-volume.tif")
    white = tifffile.imread(real_isbi2012 / "train-labels.tif") == 255
    items = [item for part in ("train", "val", "test") for item in data.items[part]]
    for k, item in enumerate(items):
        pixels, labels = item.read()
        assert item.name == f"train-volume-{k:02d}"
        assert np.array_equal(pixels, volume[k]) and np.array_equal(labels > 0, white[k])
        assert labels.max() == ndimage.label(white[k])[1] > 50
