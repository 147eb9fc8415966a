"""The search of knobs never ends worse than it began, and nothing better lies one knob away."""

import numpy as np
import pytest
from echo_model import EchoModel, loader, sample
from hypothesis import given
from hypothesis import strategies as st
from lightning import LightningDataModule

from datamodules.sample import DataError
from lightning_modules.tuning import Knobs, TuningTrainer, search

CHOICES = {"a": (0, 1, 2, 3), "b": (0, 1, 2)}


@given(st.lists(st.integers(0, 5), min_size=12, max_size=12), st.sampled_from([(0, 0), (3, 1), (7, 2)]))
def test_the_result_cannot_be_improved_by_one_knob(losses: list[int], begin: tuple[int, int]) -> None:
    table = {(a, b): losses[3 * a + b] for a in CHOICES["a"] for b in CHOICES["b"]}
    calls: list[tuple[float, ...]] = []

    def loss(knobs: Knobs) -> float:
        calls.append(tuple(knobs.values()))
        return table.get((int(knobs["a"]), int(knobs["b"])), 4)

    start: Knobs = dict(zip(CHOICES, begin, strict=True))
    found = search(loss, start, CHOICES)
    assert loss(found) <= loss(start)
    if loss(start) == 0:
        assert found == start
    for knob, values in CHOICES.items():
        assert all(loss({**found, knob: value}) >= loss(found) for value in values)


class Annotated(LightningDataModule):
    def val_dataloader(self):
        return loader([sample("a", np.ones((4, 4), np.int64))])


def test_a_decoder_without_knobs_is_one_sentence(tmp_path) -> None:
    model = EchoModel()
    model.decoder = object()
    trainer = TuningTrainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, enable_progress_bar=False)
    with pytest.raises(DataError, match="object has no knobs to tune"):
        trainer.tune(model, Annotated())
