"""Which images are drawn, and what of it a run that goes on, or several processes, do not change."""

from collections import Counter

import pytest
import torch

from datamodules.sampling import TrainingSampler, pools_by_type
from karyon.layouts.protocol import Item

ITEMS = 6


def indices(sampler: TrainingSampler) -> list[int]:
    return [draw.item for draw in sampler]


@pytest.mark.parametrize("length", [3, ITEMS, 13, 24])
def test_epochs_go_on_where_the_last_one_stopped(length: int) -> None:
    sampler = TrainingSampler([ITEMS], [1], length)
    assert len(sampler) == length
    drawn: list[int] = []
    for _ in range(12):
        drawn += indices(sampler)
        counts = Counter(drawn)
        # Each item again only after all others.
        assert max(counts.values()) - min(counts[k] for k in range(ITEMS)) <= 1
    assert drawn[:ITEMS] != drawn[ITEMS : 2 * ITEMS], "shuffled anew"


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    pools = [2, 5], [1.4, 2.2]
    sampler = TrainingSampler(*pools, 9, seed=3)
    epochs = [list(sampler) for _ in range(4)]
    again = TrainingSampler(*pools, 9, seed=3)
    torch.rand(1)  # what else is drawn meanwhile plays no part
    again.epoch, again.start = 2, 4
    assert [list(again) for _ in range(2)] == [epochs[2][4:], epochs[3]]
    assert list(TrainingSampler(*pools, 9, seed=4)) != epochs[0]
    assert len({draw.seed for epoch in epochs for draw in epoch}) == 36


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_what_one_draws(processes: int) -> None:
    one = TrainingSampler([7], [1], 7)
    several = [TrainingSampler([7], [1], 7, processes=processes, rank=rank) for rank in range(processes)]
    assert len({len(sampler) for sampler in several}) == 1
    drawn: list[int] = []
    for _ in range(7):
        drawn += [draw.item for turn in zip(*several, strict=True) for draw in turn]
    # Their epochs are longer by the draws that make their shares equal, which are not lost for the next.
    assert drawn[:7] == indices(one) and set(Counter(drawn).values()) == {-(-7 // processes) * processes}


@pytest.mark.parametrize(("balance", "share"), [(0.0, 0.1), (0.5, 0.25), (1.0, 0.5)])
def test_rare_kinds_are_drawn_more_often_where_asked(balance: float, share: float) -> None:
    items = [Item(str(k), "rare" if k < 2 else "frequent", lambda: None) for k in range(20)]
    pools = pools_by_type(items, balance)
    assert [item for pool in pools for item in pool.items] == items
    sampler = TrainingSampler([len(pool.items) for pool in pools], [pool.share for pool in pools], 8000)
    drawn = Counter(indices(sampler))
    assert (drawn[0] + drawn[1]) / 8000 == pytest.approx(share, abs=0.02)
    # Within an image type all are drawn equally often.
    assert abs(drawn[0] - drawn[1]) <= 1
    assert max(drawn[i] for i in range(2, 20)) - min(drawn[i] for i in range(2, 20)) <= 1
