"""What every data module shares: samples from records, loaders, and random states that differ where they must."""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import albumentations
import cv2
import lightning
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader, Dataset

from datamodules.augmentation.pipeline import compose
from datamodules.prediction import PredictionLoader, UsableDataset, collate_usable
from datamodules.preparation import SamplePreparation
from datamodules.sampling import Draw, Pool, TrainingLoader, TrainingSampler, pools_by_type
from karyon.batch import Batch, Sample, collate
from karyon.errors import DataError
from karyon.layouts.protocol import Item
from karyon.preprocessing import Normalization, Preprocessing, ScaleToUnit

Loader = TypeVar("Loader", bound=DataLoader[Any])


class LabelImageDataset(Dataset[Sample]):
    """Items, prepared one at a time: a `Draw` with its own augmentation, a number with one by torch's random state."""

    def __init__(self, items: Sequence[Item], preparation: SamplePreparation) -> None:
        self.items = items
        self.preparation = preparation

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, drawn: int | Draw) -> Sample:
        draw = drawn if isinstance(drawn, Draw) else Draw(drawn, int(torch.randint(2**32, ())))
        item = self.items[draw.item]
        # Albumentations 2.0.8 keeps a private random state that is copied into each worker: unseeded, all workers and
        # all epochs repeat the same (https://github.com/albumentations-team/AlbumentationsX/issues/266). Its
        # set_random_seed gives each transform the same state, so that all of one probability are applied or none is.
        if augmentations := self.preparation.augmentations:
            augmentations.set_random_state(np.random.default_rng(draw.seed), random.Random(draw.seed))
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would do, but looks for every kind of GPU each time.
            torch.default_generator.manual_seed(draw.seed)
            pixels, labels = item.read()
            return self.preparation(item.name, item.image_type, pixels, labels)


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
        train_on_validation: whether to train on the validation images too: for a last training, when everything has
            been chosen by them. What is measured on them then says nothing of other images, nor which checkpoint is
            the best.
        batch_size: of training.
        eval_batch_size: of validation, test and prediction; 1 where images differ in size.
        num_workers: processes that read and augment, per GPU.

    Attributes:
        licence: of the data, by its SPDX name; ``""`` where it does not bind what is made of it, or is not known.
    """

    licence = ""

    def __init__(
        self,
        channels: int = 3,
        image_size: int | tuple[int, int] | None = None,
        normalization: Normalization | None = None,
        augmentations: list[albumentations.BasicTransform] | None = None,
        min_area: int = 8,
        samples_per_epoch: int | None = None,
        balance: float = 0.0,
        train_on_validation: bool = False,
        batch_size: int = 16,
        eval_batch_size: int = 1,
        num_workers: int = 2,
    ) -> None:
        super().__init__()
        if channels not in (1, 3):
            raise ValueError(f"channels is {channels}: expected 1 or 3.")
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.preprocessing = Preprocessing(channels, normalization or ScaleToUnit(), size)
        self.preparation = SamplePreparation(self.preprocessing)
        self.train_preparation = SamplePreparation(
            self.preprocessing, compose(augmentations or []), min_area, originals=False
        )
        if not 0 <= balance <= 1:
            raise ValueError(f"balance is {balance}: expected a number from 0 to 1.")
        self.samples_per_epoch = samples_per_epoch
        self.balance = balance
        self.train_on_validation = train_on_validation
        # Taken now, since torch is seeded again and again during training.
        self.sampling_seed = torch.initial_seed()
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.items: dict[str, list[Item]] = {"train": [], "val": [], "test": [], "predict": []}

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path, **kwargs: Any) -> Self:  # type: ignore[override]
        """Refuses: Lightning's own would build what a file names, and so run what a stranger has written into it.

        Raises:
            DataError: always.
        """
        raise DataError(f"{checkpoint_path} holds no data: make a {cls.__name__} of its arguments, as config.yaml has.")

    @property
    def provenance(self) -> dict[str, Any]:
        """What a record says of the data: how many images there are in each part."""
        counts = {part: len(items) for part, items in self.items.items() if items and part != "predict"}
        return {"images": counts, **({"licence": self.licence} if self.licence else {})}

    def summary(self) -> str:
        """How many images there are to train, validate and test on, in a sentence."""
        return f"Images: {counted(self.provenance)}."

    def pools(self) -> list[Pool]:
        """The images to train on, in sets of which each is drawn from by its share."""
        items = self._held("train") + (self._held("val") if self.train_on_validation else [])
        return pools_by_type(items, self.balance)

    def train_dataloader(self) -> TrainingLoader:
        pools = self.pools()
        rank_zero_info(self.summary())
        if self.train_on_validation:
            rank_zero_info(
                "Training on the validation images too: their scores say nothing of other images. --checkpoint.monitor "
                "step --checkpoint.mode max takes the last state for the best."
            )
        items = [item for pool in pools for item in pool.items]
        trainer = self.trainer
        world = {"processes": trainer.world_size, "rank": trainer.global_rank} if trainer else {}
        sizes, shares = [len(pool.items) for pool in pools], [pool.share for pool in pools]
        sampler = TrainingSampler(sizes, shares, self.samples_per_epoch or len(items), self.sampling_seed, **world)
        samples = LabelImageDataset(items, self.train_preparation)
        loader = self._loader(TrainingLoader, samples, self.batch_size, sampler=sampler)
        loader.trainer = trainer
        return loader

    def val_dataloader(self) -> DataLoader[Sample]:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader[Sample]:
        items = self._held("predict")
        usable = UsableDataset(LabelImageDataset(items, self.preparation), items)
        return self._loader(PredictionLoader, usable, self.eval_batch_size, collate_usable)

    def _evaluation_loader(self, part: str) -> DataLoader[Sample]:
        return self._loader(DataLoader, LabelImageDataset(self._held(part), self.preparation), self.eval_batch_size)

    def _loader(
        self,
        loader: type[Loader],
        samples: Dataset[Any],
        batch_size: int,
        collate_fn: Callable[[Any], Any] = collate,
        **kwargs: Any,
    ) -> Loader:
        return loader(
            samples,
            batch_size=batch_size,
            num_workers=self.num_workers,
            collate_fn=collate_fn,
            worker_init_fn=keep_to_one_thread,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            **kwargs,
        )

    def _held(self, part: str) -> list[Item]:
        if not self.items[part]:
            raise DataError(f"{type(self).__name__} holds no image for '{part}': check its root and its fractions.")
        return self.items[part]

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch.to(device, non_blocking=True)


VERBS = {"train": "to train on", "val": "to validate on", "test": "to test on"}


def counted(provenance: Mapping[str, Any]) -> str:
    """The number of images of each part.

    >>> counted({"images": {"train": 8, "val": 2}})
    '8 to train on, 2 to validate on'
    """
    return ", ".join(f"{number:,} {VERBS[part]}" for part, number in provenance["images"].items())


def keep_to_one_thread(worker: int) -> None:
    """Keeps a worker to one thread: OpenCV's own threads would fight the training step for the cores."""
    cv2.setNumThreads(0)
