"""What every data module shares: samples from records, loaders, and random states that differ where they must."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import albumentations
import cv2
import lightning
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from datamodules.reading import Pixels
from datamodules.sample import Batch, DataError, LabelImage, Sample, collate
from datamodules.transforms import Normalization, Preparation, ScaleToUnit, compose


@dataclass(frozen=True)
class Item:
    """One image of a data set and how to read it.

    Attributes:
        name: identifier.
        kind: image type, ``""`` where unknown.
        read: returns the original pixels and the label image (None where there is none).
        files: of the image and, where there is one, of its label image, for reports; () where they have none.
    """

    name: str
    kind: str
    read: Callable[[], tuple[Pixels, LabelImage | None]]
    files: tuple[Path, ...] = ()


class LabelImageDataset(Dataset[Sample]):
    """Items, prepared one at a time."""

    def __init__(self, items: Sequence[Item], preparation: Preparation) -> None:
        self.items = items
        self.preparation = preparation

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        item = self.items[index]
        pixels, labels = item.read()
        return self.preparation(item.name, item.kind, pixels, labels)


class EndlessSampler(Sampler[int]):
    """Goes through all items in random order, again and again; an epoch is a cut of that stream.

    A shuffled loader begins anew each epoch. Here an epoch goes on where the last one stopped, so that all items of a
    kind are drawn equally often whether an epoch is longer or shorter than the data set.

    Args:
        kinds: of each item.
        length: number of draws in an epoch.
        balance: 0 draws kinds as often as they are found, 1 all kinds equally often; between the two, a kind of n items
            is drawn in proportion to n to the power of 1 - balance.
    """

    def __init__(self, kinds: Sequence[str], length: int, balance: float = 0.0) -> None:
        self.length = length
        groups: dict[str, list[int]] = {}
        for index, kind in enumerate(kinds):
            groups.setdefault(kind, []).append(index)
        # Without balance there is one group, so that every pass holds each item once.
        members = list(groups.values()) if balance else [list(range(len(kinds)))]
        # Of its own, so that every process draws the same stream, of which Lightning gives each its share.
        generator = torch.Generator().manual_seed(torch.initial_seed())
        weights = torch.tensor([float(len(group)) for group in members]) ** (1 - balance)
        self.stream = _draw([_shuffled_passes(group, generator) for group in members], weights, generator)

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(self.stream, self.length)


def _draw(streams: list[Iterator[int]], weights: torch.Tensor, generator: torch.Generator) -> Iterator[int]:
    while True:
        yield next(streams[int(torch.multinomial(weights, 1, generator=generator))])


def _shuffled_passes(members: list[int], generator: torch.Generator) -> Iterator[int]:
    while True:
        yield from (members[k] for k in torch.randperm(len(members), generator=generator).tolist())


class LabelImageDataModule(lightning.LightningDataModule):
    """Base of the data modules: a subclass fills ``items`` in `setup`.

    Args:
        channels: of the network's input: 1 (colour becomes luminance) or 3 (grey is repeated).
        image_size: height and width, or one number for both, that every image is resized to, px; predictions come
            back at the original size all the same. None keeps the original sizes.
        normalization: original pixels of any dtype to float32.
        augmentations: Albumentations transforms, applied in training to image and label image together.
        min_area: in training, fragments of objects below this are dropped, px.
        samples_per_epoch: how many images an epoch of training draws, more or fewer than there are; every image once
            by default.
        balance: how far rare image types are drawn as often as frequent ones in training, from 0 (as they are found)
            to 1 (all types equally often).
        batch_size: of training.
        eval_batch_size: of validation, test and prediction; 1 where images differ in size.
        num_workers: processes that read and augment, per GPU.
    """

    def __init__(
        self,
        channels: int = 3,
        image_size: int | tuple[int, int] | None = None,
        normalization: Normalization | None = None,
        augmentations: list[albumentations.BasicTransform] | None = None,
        min_area: int = 8,
        samples_per_epoch: int | None = None,
        balance: float = 0.0,
        batch_size: int = 16,
        eval_batch_size: int = 1,
        num_workers: int = 2,
    ) -> None:
        super().__init__()
        if channels not in (1, 3):
            raise ValueError(f"channels is {channels}: expected 1 or 3.")
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.preparation = Preparation(channels, normalization or ScaleToUnit(), size)
        self.train_preparation = Preparation(
            channels, self.preparation.normalization, size, compose(augmentations or []), min_area, originals=False
        )
        if not 0 <= balance <= 1:
            raise ValueError(f"balance is {balance}: expected a number from 0 to 1.")
        self.samples_per_epoch = samples_per_epoch
        self.balance = balance
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.items: dict[str, list[Item]] = {"train": [], "val": [], "test": [], "predict": []}

    def train_dataloader(self) -> DataLoader[Sample]:
        rank = self.trainer.global_rank if self.trainer else 0
        augmentations = self.train_preparation.augmentations
        if augmentations and self.num_workers == 0:
            augmentations.set_random_seed((torch.initial_seed() + rank) % 2**32)
        order: dict[str, Any] = {"shuffle": True}
        if self.samples_per_epoch or self.balance:
            kinds = [item.kind for item in self.items["train"]]
            order = {"sampler": EndlessSampler(kinds, self.samples_per_epoch or len(kinds), self.balance)}
        return self._loader("train", self.train_preparation, self.batch_size, rank=rank, **order)

    def val_dataloader(self) -> DataLoader[Sample]:
        return self._loader("val", self.preparation, self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Sample]:
        return self._loader("test", self.preparation, self.eval_batch_size)

    def predict_dataloader(self) -> DataLoader[Sample]:
        return self._loader("predict", self.preparation, self.eval_batch_size)

    def _loader(
        self, part: str, preparation: Preparation, batch_size: int, rank: int = 0, **kwargs: Any
    ) -> DataLoader[Sample]:
        if not self.items[part]:
            raise DataError(f"{type(self).__name__} holds no image for '{part}': check its root and its fractions.")
        return DataLoader(
            LabelImageDataset(self.items[part], preparation),
            batch_size=batch_size,
            num_workers=self.num_workers,
            collate_fn=collate,
            worker_init_fn=partial(seed_worker, rank=rank),
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            **kwargs,
        )

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch.to(device, non_blocking=True)


def seed_worker(worker: int, rank: int) -> None:
    """Gives every worker of every process its own augmentations, anew in each epoch.

    Albumentations 2.0.8 keeps a private random state that is copied into each worker: unseeded, all workers and all
    epochs repeat the same augmentations (https://github.com/albumentations-team/AlbumentationsX/issues/266).
    ``torch.initial_seed`` differs by worker and epoch, but not by process.
    """
    # One thread a worker: OpenCV's own threads would fight the training step for the cores.
    cv2.setNumThreads(0)
    info = get_worker_info()
    assert info is not None and isinstance(info.dataset, LabelImageDataset)
    if augmentations := info.dataset.preparation.augmentations:
        augmentations.set_random_seed((torch.initial_seed() + 1_000_003 * rank) % 2**32)
