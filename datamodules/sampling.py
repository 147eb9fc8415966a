"""Which images an epoch of training draws, and with which augmentation: a function of the seed and the epoch alone.

Nothing about it needs to be kept: a run that goes on after an interruption, in the middle of an epoch too, draws what
it would have drawn, whatever the number of processes that load.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from lightning import Trainer
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from karyon.layouts.protocol import Item

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


class Pool(NamedTuple):
    """Images that are drawn equally often.

    Attributes:
        items: the images.
        share: of all draws, in proportion to the shares of other pools.
    """

    items: list[Item]
    share: float


def pools_by_type(items: Sequence[Item], balance: float) -> list[Pool]:
    """Puts the images of each type into a pool.

    Args:
        items: the images.
        balance: 0 draws image types as often as they are found, 1 all equally often; between
            the two, a type of n images is drawn in proportion to n to the power of 1 - balance.
    """
    if not balance:
        # In one pool, so that every pass holds each image once.
        return [Pool(list(items), 1.0)]
    types: dict[str, list[Item]] = {}
    for item in items:
        types.setdefault(item.image_type, []).append(item)
    return [Pool(members, len(members) ** (1 - balance)) for members in types.values()]


class TrainingSampler(DistributedSampler[Draw]):
    """Goes through all items in random order, again and again; an epoch is a cut of that stream.

    An epoch goes on where the one before it stops, so that all items of a pool are drawn equally often whether
    an epoch is longer or shorter than the data set. Of several processes each takes its share of every batch: together
    they draw what one process with a batch as large as all of theirs would.

    It iterates over epoch after epoch, or over those it is told of by setting ``epoch``, and ``start``, the number of
    draws of this process that are left out once.

    Args:
        sizes: number of items of each pool; items are numbered pool after pool.
        shares: of each pool in the draws.
        length: number of draws in an epoch, of all processes; rounded up so that all have equally many.
        seed: another seed, another stream.
        processes: how many of them share the stream.
        rank: of this one.
    """

    # Lightning adds a sampler of its own, which knows nothing of epochs, to any that is not of this base.
    def __init__(
        self,
        sizes: Sequence[int],
        shares: Sequence[float],
        length: int,
        seed: int = 0,
        processes: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(range(length), num_replicas=processes, rank=rank, seed=seed)  # type: ignore[arg-type]
        self.pools = [np.arange(*ends) for ends in pairwise([0, *np.cumsum(sizes)])]
        self.weights = np.array(shares) / np.sum(shares)
        self.start = 0
        # How often each pool was drawn from before an epoch.
        self.drawn = [np.zeros(len(self.pools), dtype=np.int64)]

    def __iter__(self) -> Iterator[Draw]:
        draws = self.draws(self.epoch)[self.rank :: self.num_replicas][self.start :]
        self.epoch, self.start = self.epoch + 1, 0
        return iter(draws)

    def draws(self, epoch: int) -> list[Draw]:
        """All draws of an epoch, of which the processes take turns."""
        while len(self.drawn) <= epoch:
            chosen, _ = self._choose(len(self.drawn) - 1)
            self.drawn.append(self.drawn[-1] + np.bincount(chosen, minlength=len(self.pools)))
        chosen, seeds = self._choose(epoch)
        indices = np.empty(self.total_size, dtype=np.int64)
        for number, first in enumerate(self.drawn[epoch]):
            places = np.flatnonzero(chosen == number)
            indices[places] = self._members(number, int(first), len(places))
        return [Draw(item, seed) for item, seed in zip(indices.tolist(), seeds.tolist(), strict=True)]

    def _choose(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pool of each draw of an epoch, and its seed."""
        rng = np.random.default_rng([self.seed, _EPOCH, epoch])
        return rng.choice(len(self.pools), self.total_size, p=self.weights), rng.integers(2**32, size=self.total_size)

    def _members(self, number: int, first: int, count: int) -> NDArray[np.int64]:
        """Some successive draws from a pool, each of whose passes is in an order of its own."""
        pool = self.pools[number]
        passes = [
            np.random.default_rng([self.seed, _PASS, number, turn]).permutation(pool)
            for turn in range(first // len(pool), -(-(first + count) // len(pool)))
        ]
        return np.concatenate([pool[:0], *passes])[first % len(pool) :][:count]


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
