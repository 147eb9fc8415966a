"""The images of extreme sizes are prepared as training would, before it begins."""

from collections.abc import Callable

import albumentations
import numpy as np

from datamodules.augmentation.pipeline import compose
from datamodules.preparation import SamplePreparation
from datamodules.training_checks import common_size, prepare_extremes
from karyon.checks.image_facts import Facts, examine
from karyon.layouts.protocol import Item
from karyon.preprocessing import Preprocessing, ScaleToUnit


def known(items: list[Item]) -> list[Facts]:
    return [examine("train", item, ScaleToUnit()) for item in items]


def preparation(
    *augmentations: albumentations.BasicTransform, size: tuple[int, int] | None = None
) -> SamplePreparation:
    return SamplePreparation(Preprocessing(3, ScaleToUnit(), size), compose(augmentations))


def test_the_extremes_are_prepared_as_training_would(refused: Callable) -> None:
    read = []
    sizes = {"a": (50, 60), "low": (30, 60), "high": (70, 60), "narrow": (50, 40), "wide": (50, 80), "b": (51, 61)}

    def item(name: str, size: tuple[int, int]) -> Item:
        return Item(name, "", lambda: (read.append(name), (np.zeros(size, np.uint8), np.ones(size, np.int32)))[1])

    items = [item(name, size) for name, size in sizes.items()]
    images = known(items)
    read.clear()
    samples = prepare_extremes(items, images, preparation(albumentations.RandomCrop(30, 40)), 8)
    assert read == ["low", "high", "narrow", "wide"]
    assert common_size(samples) == (30, 40)
    with refused("low is 30 x 60 px, smaller than a crop"):
        prepare_extremes(items, images, preparation(albumentations.RandomCrop(31, 40)), 1)
    with refused("narrow is 50 x 40 px, smaller than a crop"):
        prepare_extremes(items, images, preparation(albumentations.RandomCrop(30, 41)), 1)
    with refused("Images of different sizes cannot share a batch (low"):
        prepare_extremes(items, images, preparation(), 2)
    assert common_size(prepare_extremes(items, images, preparation(), 1)) is None
    assert common_size(prepare_extremes(items, images, preparation(size=(32, 32)), 2)) == (32, 32)
    assert prepare_extremes([], [], preparation(), 2) == []


def test_images_that_cannot_be_used_are_left_out_of_the_extremes() -> None:
    nan = Item("nan", "", lambda: (np.full((4, 4), np.nan, np.float32), None))
    other = Item("other", "", lambda: (np.zeros((4, 4), np.uint8), np.zeros((5, 4), np.int32)))
    good = Item("good", "", lambda: (np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.int32)))
    items = [nan, other, good]
    samples = prepare_extremes(items, known(items), preparation(), 2)
    assert [sample.name for sample in samples] == ["good"]
