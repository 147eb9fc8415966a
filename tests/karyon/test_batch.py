"""Batches: what is stacked, what stays apart and what moves to a device."""

from collections.abc import Callable

import numpy as np
import torch

from karyon.batch import Sample, collate


def sample(name: str, size: tuple[int, int], labelled: bool = True) -> Sample:
    labels = torch.ones(size, dtype=torch.int64) if labelled else None
    return Sample(name, torch.full((3, *size), 0.5), (7, 9), labels, "fluorescence", np.zeros((7, 9)), labels)


def test_collate_stacks_and_keeps_the_originals_apart() -> None:
    batch = collate([sample("a", (4, 5)), sample("b", (4, 5))])
    assert len(batch) == 2 and batch.image.shape == (2, 3, 4, 5)
    assert batch.labels.shape == (2, 4, 5) and batch.labels.dtype == torch.int64
    assert (batch.names, batch.sizes, batch.image_types) == (["a", "b"], [(7, 9)] * 2, ["fluorescence"] * 2)
    assert [source.shape for source in batch.sources if source is not None] == [(7, 9)] * 2
    assert len(batch.truths) == 2


def test_collate_has_no_labels_where_one_image_has_none() -> None:
    assert collate([sample("a", (4, 5)), sample("b", (4, 5), labelled=False)]).labels is None


def test_images_of_different_sizes_cannot_share_a_batch(refused: Callable) -> None:
    with refused("long-name", "(3, 4, 5)", "other", "(3, 4, 6)", "image_size", "crop", "batch size of 1"):
        collate([sample("long-name", (4, 5)), sample("other", (4, 6))])


def test_only_what_the_network_reads_moves() -> None:
    batch = collate([sample("a", (4, 5))])
    moved = batch.to(torch.device("meta"))
    assert moved.image.is_meta and moved.labels.is_meta
    assert moved.truths[0] is batch.truths[0] and moved.sources[0] is batch.sources[0]
    assert not batch.image.is_meta
