"""The real ISBI 2012 stacks: the published facts, and content that is pinned to the pixel."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
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
    for pixels, labels in annotated:
        assert pixels.shape == (512, 512) and pixels.dtype == np.uint8 and labels is not None
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
        assert item.name == f"train-volume-{k:02d}" and labels is not None
        assert np.array_equal(pixels, volume[k]) and np.array_equal(labels > 0, white[k])
        assert labels.max() == ndimage.label(white[k])[1] > 50


def test_a_section_becomes_a_batch_of_one_channel(data: ISBI2012DataModule) -> None:
    batch = next(iter(data.val_dataloader()))
    assert batch.image.shape == (1, 1, 512, 512) and batch.names == ["train-volume-20"]
    assert 0 <= batch.image.min() < 0.1 and 0.9 < batch.image.max() <= 1
    assert batch.labels is not None and torch.equal(batch.labels[0], batch.truths[0])


@pytest.mark.parametrize(
    ("stack", "stage"), [("train-volume", "fit"), ("train-labels", "fit"), ("test-volume", "predict")]
)
def test_one_changed_pixel_is_refused(
    stack: str, stage: str, real_isbi2012: Path, tmp_path: Path, refused: Callable
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for path in real_isbi2012.glob("*.tif"):
        (root / path.name).symlink_to(path.resolve())
    pixels = tifffile.imread(real_isbi2012 / f"{stack}.tif")
    pixels[17, 300, 200] ^= 255 if stack == "train-labels" else 1
    (root / f"{stack}.tif").unlink()
    tifffile.imwrite(root / f"{stack}.tif", pixels, photometric="minisblack")
    with refused(root / f"{stack}.tif", "section 17 differ from the published ones", "manifest: null"):
        ISBI2012DataModule(root=root, cache_dir=tmp_path / "cache").setup(stage)


def test_the_stacks_are_found_within_the_archive(data: ISBI2012DataModule, real_isbi2012: Path, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "ISBI-2012-challenge"), "zip", real_isbi2012.parent, real_isbi2012.name)
    packed = ISBI2012DataModule(root=tmp_path, cache_dir=data.cache_dir, num_workers=0)
    packed.setup("fit")
    for one, other in zip(packed.items["val"], data.items["val"], strict=True):
        assert one.name == other.name
        assert all(np.array_equal(a, b) for a, b in zip(one.read(), other.read(), strict=True))
    assert len(list((data.cache_dir / "splits").iterdir())) == 1, "the same content, the same split"
