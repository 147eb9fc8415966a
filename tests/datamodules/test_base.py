"""Loaders, and random states that differ by worker, epoch and process, and repeat with the seed."""

import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import albumentations
import lightning
import numpy as np
import pytest
import torch
from hostile_bundles import Call

from datamodules.base import LabelImageDataModule
from datamodules.combined import CombinedDataModule
from datamodules.dsb2018 import DSB2018DataModule
from datamodules.folder import FolderDataModule
from karyon.batch import Batch
from karyon.errors import DataError
from karyon.layouts.protocol import Item
from karyon.preprocessing import PercentileNormalize

ROOT = Path(__file__).parents[2]
IMAGES = 6


def grey(_: int = 0) -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros((16, 16), np.int32)
    labels[4:8, 4:8] = 5
    return np.full((16, 16), 128, np.uint8), labels


@pytest.mark.parametrize("kind", [LabelImageDataModule, FolderDataModule, DSB2018DataModule, CombinedDataModule])
def test_a_checkpoint_of_a_stranger_runs_nothing_and_builds_nothing(
    kind: type[LabelImageDataModule], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable
) -> None:
    monkeypatch.chdir(tmp_path)
    contents = [
        {"datamodule_hyper_parameters": {"root": "theirs", "_instantiator": "os.mkdir"}, "state_dict": {}},
        {"pytorch-lightning_version": "2.0.0", "callbacks": Call(os.mkdir, "executed")},
    ]
    for content in contents:
        torch.save(content, "best.ckpt")
        with refused("best.ckpt holds no data", f"make a {kind.__name__} of its arguments"):
            kind.load_from_checkpoint("best.ckpt", weights_only=False)
    assert not Path("executed").exists()


def datamodule(
    rank: int = 0, processes: int = 1, read: Callable[[], Any] = grey, **kwargs: Any
) -> LabelImageDataModule:
    """Six equal images, each made brighter or darker by an amount that tells one augmentation from another."""
    arguments = {"augmentations": [albumentations.RandomBrightnessContrast(p=1)], "batch_size": 1, **kwargs}
    data = LabelImageDataModule(**arguments)
    for part in data.items:
        data.items[part] = [Item(f"{part}{i}", "fluorescence", read) for i in range(IMAGES)]
    if processes > 1:
        # Before its first batch.
        loop = SimpleNamespace(batch_idx=-1)
        told = {"global_rank": rank, "world_size": processes, "current_epoch": 0, "num_training_batches": IMAGES}
        data.trainer = SimpleNamespace(fit_loop=loop, **told)
    return data


def brightness(seed: int, epochs: int = 2, **kwargs: Any) -> list[list[float]]:
    """What each image of each epoch was made into, in the order of the batches."""
    lightning.seed_everything(seed, verbose=False)
    loader = datamodule(**kwargs).train_dataloader()
    return [[float(batch.image.mean()) for batch in loader] for _ in range(epochs)]


def flat(epochs: list[list[float]]) -> list[float]:
    return [value for epoch in epochs for value in epoch]


@pytest.mark.parametrize("workers", [0, 2])
def test_no_two_images_are_augmented_alike_and_a_seed_repeats_them_all(workers: int) -> None:
    """With two workers, batches come from each in turn; a state copied into both would show every value twice."""
    first = brightness(1, num_workers=workers)
    assert len(flat(first)) == 2 * IMAGES == len(set(flat(first))), "workers and epochs differ"
    assert brightness(1, num_workers=workers) == first
    other = brightness(2, epochs=1, num_workers=workers)
    assert not set(flat(other)) & set(flat(first))


@pytest.mark.parametrize("workers", [0, 2])
def test_processes_of_one_seed_augment_differently(workers: int) -> None:
    ranks = [brightness(1, epochs=1, num_workers=workers, rank=rank, processes=2) for rank in (0, 1)]
    assert len(flat(ranks[0])) == len(flat(ranks[1])) == IMAGES // 2
    # Together they make what one process makes, which the number of loading processes does not change either.
    assert [value for pair in zip(*map(flat, ranks), strict=True) for value in pair] == flat(brightness(1, epochs=1))


def test_transforms_of_one_probability_are_not_applied_together() -> None:
    flips = [albumentations.HorizontalFlip(p=0.5), albumentations.VerticalFlip(p=0.5)]

    def read() -> tuple[np.ndarray, None]:
        corner = np.zeros((4, 4), np.uint8)
        corner[0, 0] = 255
        return corner, None

    data = datamodule(read=read, augmentations=flips, num_workers=0, samples_per_epoch=400)
    ends = Counter(int(batch.image[0, 0].argmax()) for batch in data.train_dataloader())
    assert set(ends) == {0, 3, 12, 15} and min(ends.values()) > 60


def test_training_is_shuffled_and_evaluation_is_not() -> None:
    orders = []
    for seed in (1, 1, 2):
        lightning.seed_everything(seed, verbose=False)
        data = datamodule(num_workers=0)
        orders.append([batch.names[0] for batch in data.train_dataloader()])
    names = [f"train{i}" for i in range(IMAGES)]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[2]) == names
    for part, loader in {"val": data.val_dataloader(), "test": data.test_dataloader()}.items():
        assert [batch.names for batch in loader] == [[f"{part}{i}"] for i in range(IMAGES)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_longer_epoch_draws_every_image_equally_often_and_each_time_differently(workers: int) -> None:
    lightning.seed_everything(1, verbose=False)
    batches = list(datamodule(samples_per_epoch=4 * IMAGES, num_workers=workers).train_dataloader())
    assert Counter(batch.names[0] for batch in batches) == {f"train{i}": 4 for i in range(IMAGES)}
    assert len({float(batch.image.mean()) for batch in batches}) == 4 * IMAGES
    names = [batch.names[0] for batch in batches]
    assert names != names[:IMAGES] * 4, "shuffled"


def test_the_length_of_an_epoch_is_of_training_alone() -> None:
    data = datamodule(samples_per_epoch=50, num_workers=0)
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        assert len(loader) == IMAGES
    assert len(data.train_dataloader()) == 50
    for options in ({}, {"balance": 1.0}):
        assert len(datamodule(num_workers=0, **options).train_dataloader()) == IMAGES


@pytest.mark.parametrize(("option", "sentence"), [({"balance": 2}, "balance is 2"), ({"channels": 2}, "channels is 2")])
def test_options_out_of_range_are_refused(option: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"{sentence}: expected"):
        LabelImageDataModule(**option)


def test_a_last_training_takes_the_validation_images_too_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    data = datamodule(train_on_validation=True, num_workers=0)
    with caplog.at_level(logging.INFO):
        names = Counter(batch.names[0] for batch in data.train_dataloader())
    assert names == {f"{part}{i}": 1 for part in ("train", "val") for i in range(IMAGES)}
    assert "Training on the validation images too: their scores say nothing" in caplog.text
    assert [batch.names[0] for batch in data.val_dataloader()] == [f"val{i}" for i in range(IMAGES)]


def test_only_evaluation_carries_originals_and_only_training_is_augmented() -> None:
    data = datamodule(num_workers=0)
    trained: Batch = next(iter(data.train_dataloader()))
    assert trained.sources == [None] and trained.truths == [None]
    assert int(trained.labels.max()) == 1
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        batch: Batch = next(iter(loader))
        assert batch.sources[0] is not None and batch.truths[0] is not None
        assert torch.allclose(batch.image, torch.tensor(128 / 255)) and batch.image_types == ["fluorescence"]


def test_batches_have_the_sizes_channels_and_values_asked_for() -> None:
    normalization = PercentileNormalize()
    data = datamodule(
        channels=1, image_size=(8, 12), normalization=normalization, batch_size=4, eval_batch_size=3, num_workers=0
    )
    assert [len(batch) for batch in data.train_dataloader()] == [4, 2]
    assert [len(batch) for batch in data.val_dataloader()] == [3, 3]
    batch: Batch = next(iter(data.val_dataloader()))
    assert batch.image.shape == (3, 1, 8, 12) and batch.sizes == [(16, 16)] * 3
    assert data.preparation.preprocessing is data.train_preparation.preprocessing is data.preprocessing
    assert data.preprocessing.normalization is normalization
    assert datamodule(image_size=8).preparation.image_size == (8, 8)


def test_slivers_are_dropped_in_training_alone_and_only_where_it_augments() -> None:
    data = datamodule(min_area=17, num_workers=0)
    assert int(next(iter(data.train_dataloader())).labels.max()) == 0
    assert int(next(iter(data.val_dataloader())).labels.max()) == 1
    batch: Batch = next(iter(datamodule(augmentations=None, num_workers=0, min_area=17).train_dataloader()))
    assert torch.allclose(batch.image, torch.tensor(128 / 255))
    assert int(batch.labels.max()) == 1


def test_an_empty_part_is_refused(refused: Callable[..., Any]) -> None:
    data = datamodule()
    data.items["val"] = []
    with refused("LabelImageDataModule", "'val'", "fractions"):
        data.val_dataloader()


def test_the_sentence_of_a_worker_is_the_last_line_of_its_error() -> None:
    def unreadable() -> None:
        raise DataError("a.png is empty: copy it again.")

    with pytest.raises(DataError) as caught:
        next(iter(datamodule(read=unreadable, num_workers=1).train_dataloader()))
    assert str(caught.value).strip().splitlines()[-1].endswith("a.png is empty: copy it again.")


def test_images_of_mixed_sizes_need_a_crop(refused: Callable[..., Any]) -> None:
    sizes = iter([(16, 16), (16, 20)] * IMAGES)

    def read() -> tuple[np.ndarray, None]:
        return np.zeros(next(sizes), np.uint8), None

    with refused("different sizes", "(3, 16, 16)", "(3, 16, 20)", "image_size"):
        next(iter(datamodule(read=read, batch_size=2, num_workers=0).train_dataloader()))
    crop = [albumentations.RandomCrop(height=12, width=12)]
    data = datamodule(read=read, batch_size=2, num_workers=0, augmentations=crop)
    assert all(batch.image.shape == (2, 3, 12, 12) and batch.labels is None for batch in data.train_dataloader())


def test_albumentations_is_told_not_to_ask_the_network_before_it_is_imported() -> None:
    """It looks for a newer version of itself while it is imported."""
    code = """
import os, sys
os.environ.pop("NO_ALBUMENTATIONS_UPDATE", None)
class Watch:
    def find_spec(self, name, *_):
        if name == "albumentations":
            os._exit(0 if os.environ.get("NO_ALBUMENTATIONS_UPDATE") == "1" else 3)
sys.meta_path.insert(0, Watch())
import datamodules.base
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
