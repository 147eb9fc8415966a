"""Which images an epoch of training draws, and with which augmentation: a function of the seed and the epoch alone.

Nothing about it needs to be kept: a run that goes on after an interruption, in the middle of an epoch too, draws what
it would have drawn, whatever the number of processes that load.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from lightning import Trainer
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

# What random numbers are for, so that those of one purpose are not those of another.
_EPOCH, _PASS = 0, 1


class Draw(NamedTuple):
    """An image to train on.

    Attributes:
        item: its number.
        seed: of its augmentation.
    """

    item: int
    seed: int


class TrainingSampler(DistributedSampler[Draw]):
    """Goes through all items in random order, again and again; an epoch is a cut of that stream.

    An epoch goes on where the one before it stops, so that all items of an image type are drawn equally often whether
    an epoch is longer or shorter than the data set. Of several processes each takes its share of every batch: together
    they draw what one process with a batch as large as all of theirs would.

    It iterates over epoch after epoch, or over those it is told of by setting ``epoch``, and ``start``, the number of
    draws of this process that are left out once.

    Args:
        image_types: of each item.
        length: number of draws in an epoch, of all processes; rounded up so that all have equally many.
        balance: 0 draws image types as often as they are found, 1 all equally often; between
            the two, a type of n images is drawn in proportion to n to the power of 1 - balance.
        seed: another seed, another stream.
        processes: how many of them share the stream.
        rank: of this one.
    """

    # Lightning adds a sampler of its own, which knows nothing of epochs, to any that is not of this base.
    def __init__(
        self,
        image_types: Sequence[str],
        length: int,
        balance: float = 0.0,
        seed: int = 0,
        processes: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(range(length), num_replicas=processes, rank=rank, seed=seed)  # type: ignore[arg-type]
        groups: dict[str, list[int]] = {}
        for index, image_type in enumerate(image_types):
            groups.setdefault(image_type, []).append(index)
        # Without balance there is one group, so that every pass holds each item once.
        self.groups = [np.array(group) for group in groups.values()] if balance else [np.arange(len(image_types))]
        weights = np.array([len(group) for group in self.groups]) ** (1 - balance)
        self.weights = weights / weights.sum()
        self.start = 0
        # How often each group was drawn from before an epoch.
        self.drawn = [np.zeros(len(self.groups), dtype=np.int64)]

    def __iter__(self) -> Iterator[Draw]:
        draws = self.draws(self.epoch)[self.rank :: self.num_replicas][self.start :]
        self.epoch, self.start = self.epoch + 1, 0
        return iter(draws)

    def draws(self, epoch: int) -> list[Draw]:
        """All draws of an epoch, of which the processes take turns."""
        while len(self.drawn) <= epoch:
            chosen, _ = self._choose(len(self.drawn) - 1)
            self.drawn.append(self.drawn[-1] + np.bincount(chosen, minlength=len(self.groups)))
        chosen, seeds = self._choose(epoch)
        indices = np.empty(self.total_size, dtype=np.int64)
        for number, first in enumerate(self.drawn[epoch]):
            places = np.flatnonzero(chosen == number)
            indices[places] = self._members(number, int(first), len(places))
        return [Draw(item, seed) for item, seed in zip(indices.tolist(), seeds.tolist(), strict=True)]

    def _choose(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The group of each draw of an epoch, and its seed."""
        rng = np.random.default_rng([self.seed, _EPOCH, epoch])
        return rng.choice(len(self.groups), self.total_size, p=self.weights), rng.integers(2**32, size=self.total_size)

    def _members(self, number: int, first: int, count: int) -> NDArray[np.int64]:
        """Some successive draws from a group, each of whose passes is in an order of its own."""
        group = self.groups[number]
        passes = [
            np.random.default_rng([self.seed, _PASS, number, turn]).permutation(group)
            for turn in range(first // len(group), -(-(first + count) // len(group)))
        ]
        return np.concatenate([group[:0], *passes])[first % len(group) :][:count]


class TrainingLoader(DataLoader[Any]):
    """Starts an epoch when its first batch is asked for, where the training says that it is.

    Lightning makes a loader's iterator before it tells the sampler which epoch begins, and on resuming counts the
    batches that are done without leaving them out.

    Attributes:
        trainer: who asks; without one, epochs follow each other.
    """

    trainer: Trainer | None = None

    def __iter__(self) -> Any:
        if self.trainer is not None and isinstance(self.sampler, TrainingSampler):
            assert self.batch_size is not None
            done = self.trainer.fit_loop.batch_idx + 1
            self.sampler.epoch = self.trainer.current_epoch
            # Whoever looks at the images again at the end of an epoch gets all of them.
            self.sampler.start = done % int(self.trainer.num_training_batches) * self.batch_size
        yield from super().__iter__()
