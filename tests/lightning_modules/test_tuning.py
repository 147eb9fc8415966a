"""A search of parameters never ends worse than it began, and changing a single one makes nothing better."""

import numpy as np
import pytest
from echo_model import EchoModel, loader, make_trainer, sample
from hypothesis import given
from hypothesis import strategies as st
from lightning import LightningDataModule

from karyon.errors import DataError
from lightning_modules.tuning import Parameters, TuningTrainer, search

CHOICES = {"a": (0, 1, 2, 3), "b": (0, 1, 2)}


@given(st.lists(st.integers(0, 5), min_size=12, max_size=12), st.sampled_from([(0, 0), (3, 1), (7, 2)]))
def test_the_result_cannot_be_improved_by_one_parameter(losses: list[int], begin: tuple[int, int]) -> None:
    table = {(a, b): losses[3 * a + b] for a in CHOICES["a"] for b in CHOICES["b"]}

    def loss(parameters: Parameters) -> float:
        return table.get((int(parameters["a"]), int(parameters["b"])), 4)

    start: Parameters = dict(zip(CHOICES, begin, strict=True))
    found = search(loss, start, CHOICES)
    assert loss(found) <= loss(start)
    if loss(start) == 0:
        assert found == start
    for name, values in CHOICES.items():
        assert all(loss({**found, name: value}) >= loss(found) for value in values)


class Annotated(LightningDataModule):
    def val_dataloader(self):
        return loader([sample("a", np.ones((4, 4), np.int64))])


def test_a_postprocessing_without_parameters_is_one_sentence(tmp_path) -> None:
    model = EchoModel()
    model.postprocessing = object()
    with pytest.raises(DataError, match="object has no parameters to tune"):
        make_trainer(tmp_path, image_type=TuningTrainer).tune(model, Annotated())
