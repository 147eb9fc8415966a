from collections.abc import Callable
from pathlib import Path

import albumentations
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datamodules.base import LabelImageDataModule
from datamodules.crops import CropDataModule, DecodedImage, cut, decode
from datamodules.dsb2018 import DSB2018DataModule
from karyon.layouts.protocol import Item
from karyon.preprocessing import PercentileNormalize, ScaleToUnit

Refused = Callable[..., object]


def two_squares() -> tuple[np.ndarray, np.ndarray]:
    """Two nuclei that touch, 8 x 8 and 8 x 4 px, each pixel of its own brightness."""
    labels = np.zeros((20, 30), np.int32)
    labels[4:12, 3:11] = 5
    labels[4:12, 11:15] = 9
    return np.arange(600, dtype=np.uint16).reshape(20, 30) * 100, labels


class Squares(LabelImageDataModule):
    def setup(self, stage: str) -> None:
        for part in ("train", "val", "test"):
            self.items[part] = [Item(part, "square", two_squares)]
        self.items["predict"] = [Item("bare", "", lambda: (two_squares()[0], None))]


def test_a_crop_holds_its_nucleus_alone_and_the_margin_around_it() -> None:
    pixels, labels = two_squares()
    data = CropDataModule(Squares(channels=1), crop_size=12, margin=0.25, num_workers=0)
    data.setup("test")
    first, second = data.test_dataloader().dataset
    assert (first.name, second.name, first.image_type) == ("test#1", "test#2", "square")
    # 8 px and a margin of 2 px on each side are the size of the crop: nothing is resampled.
    np.testing.assert_array_equal(first.labels, labels[2:14, 1:13] == 5)
    np.testing.assert_array_equal(first.truth, first.labels)
    np.testing.assert_allclose(first.image[0], pixels[2:14, 1:13] / 65535, atol=2**-11)
    assert first.size == (12, 12) and second.size == (12, 6) and second.image.shape == (1, 12, 12)
    assert torch.equal(second.labels[:, ::2], torch.from_numpy((labels[2:14, 10:16] == 9).astype(int)))


def test_beyond_the_image_a_crop_is_empty() -> None:
    pixels, labels = np.full((6, 6), 255, np.uint8), np.zeros((6, 6), np.int32)
    labels[:4, 4:] = 1
    image = decode(Item("a", "", lambda: (pixels, labels)), ScaleToUnit())
    crop, own = image.crop(1, margin=0.5, jitter=0)
    assert crop.shape == (8, 4)
    assert crop[:2].max() == 0 and crop[:, 3:].max() == 0
    assert crop[2:, :3].min() == 1
    assert own.sum() == 8 and own[2:6, 1:3].all()


@given(st.integers(0, 10**6), st.floats(0, 0.6), st.floats(0, 0.49))
def test_jitter_moves_each_edge_by_no_more_than_its_share(seed: int, margin: float, jitter: float) -> None:
    torch.manual_seed(seed)
    columns, rows = np.meshgrid(np.arange(200), np.arange(150))
    position = np.stack([rows, columns, columns], axis=-1).astype(np.float16)
    labels = np.zeros((150, 200), np.int32)
    labels[60:80, 70:110] = 1
    image = DecodedImage(position, labels, np.array([[70.0, 60, 110, 80]]))
    crop, own = image.crop(1, margin, jitter)
    top, left = crop[0, 0, :2]
    bottom, right = crop[-1, -1, :2] + 1
    for edge, still, side in ((top, 60, -20), (bottom, 80, 20), (left, 70, -40), (right, 110, 40)):
        outwards = (edge - still) / side
        # Whole pixels, rounded outwards.
        assert margin - jitter - 1e-6 <= outwards <= margin + jitter + 1 / abs(side) + 1e-6
    np.testing.assert_array_equal(own, labels[int(top) : int(bottom), int(left) : int(right)])


def test_jitter_differs_from_draw_to_draw_in_training_alone() -> None:
    data = CropDataModule(Squares(), crop_size=8, jitter=0.3, num_workers=0)
    data.setup("fit")
    (train, *_), (val, *_) = data.items["train"], data.items["val"]
    sizes = {(train.read()[0].shape, train.read()[0].sum()) for _ in range(5)}
    assert len(sizes) == 5
    np.testing.assert_array_equal(val.read()[0], val.read()[0])


def test_images_are_normalised_as_a_whole() -> None:
    normalization = PercentileNormalize()
    data = CropDataModule(Squares(normalization=normalization, channels=1), crop_size=12, num_workers=0)
    data.setup("validate")
    expected = normalization(two_squares()[0])[2:14, 1:13]
    np.testing.assert_allclose(data.val_dataloader().dataset[0].image[0], expected, atol=2**-11)


def test_each_image_is_decoded_once() -> None:
    reads = []

    def read() -> tuple[np.ndarray, np.ndarray]:
        reads.append(1)
        return two_squares()

    class Counted(Squares):
        def setup(self, stage: str) -> None:
            self.items["train"] = [Item("a", "", read)]

    data = CropDataModule(Counted(), crop_size=16, batch_size=2, num_workers=0)
    data.setup("fit")
    for _ in range(3):
        assert sum(len(batch) for batch in data.train_dataloader()) == 2
    assert len(reads) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_splits_are_those_of_the_images_and_crops_are_augmented(layout: Path, tmp_path: Path, workers: int) -> None:
    images = DSB2018DataModule(root=layout, cache_dir=tmp_path, manifest=None)
    augmentations = [albumentations.D4(), albumentations.RandomBrightnessContrast(p=1)]
    data = CropDataModule(images, crop_size=24, augmentations=augmentations, batch_size=8, num_workers=workers)
    data.prepare_data()
    data.setup("fit")
    names = {part: {item.name.split("#")[0] for item in data.items[part]} for part in ("train", "val")}
    assert names == {part: {item.name for item in images.items[part]} for part in ("train", "val")}
    assert not names["train"] & names["val"]
    objects = sum(int(item.read()[1].max()) for item in images.items["train"])
    batches = list(data.train_dataloader())
    assert sum(map(len, batches)) == objects
    assert batches[0].image.shape == (8, 3, 24, 24)
    assert all((batch.labels > 0).any() for batch in batches)
    assert data.annotation == "original"


def test_what_cannot_be_cut_is_refused(refused: Refused) -> None:
    data = CropDataModule(Squares())
    with refused("bare", "TwoStage"):
        data.setup("predict")
    with pytest.raises(ValueError, match="original sizes"):
        CropDataModule(Squares(image_size=64))
    with pytest.raises(ValueError, match=r"jitter 0\.5"):
        CropDataModule(Squares(), jitter=0.5)
    bad = Item("dark", "", lambda: (np.full((4, 4), 7.0), np.ones((4, 4), np.int32)))
    with refused("dark", "outside [0, 1]"):
        decode(bad, ScaleToUnit())


@given(st.tuples(*[st.integers(-12, 22)] * 2), st.tuples(*[st.integers(1, 15)] * 2))
def test_cutting_equals_cutting_out_of_a_padded_image(corner: tuple[int, int], size: tuple[int, int]) -> None:
    array = np.arange(1, 101).reshape(10, 10)
    (x, y), (width, height) = corner, size
    padded = np.pad(array, 40)[40 + y : 40 + y + height, 40 + x : 40 + x + width]
    np.testing.assert_array_equal(cut(array, np.array([x, y, x + width, y + height])), padded)
