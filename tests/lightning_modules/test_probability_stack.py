"""The submission holds the probabilities that were predicted, section by section."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch
from echo_model import EchoModel, loader, make_trainer, sample

from karyon.errors import DataError
from karyon.instances import Prediction
from lightning_modules.callbacks.probability_stack import ProbabilityStack


class Grey(EchoModel):
    """Its probability is its input image."""

    def predict_step(self, batch):
        answers = super().predict_step(batch)
        images = zip(answers, batch.image[:, 0].numpy(), strict=True)
        return [Prediction(answer.name, answer.size, image, answer.instances) for answer, image in images]


def predict(folder, samples, model=None):
    make_trainer(folder, ProbabilityStack()).predict(model or Grey(), loader(samples), return_predictions=False)


def sections(count, size=(6, 8)):
    maps = [np.random.default_rng(k).integers(0, 2, size) for k in range(count)]
    return [sample(f"section-{k:02d}", labels) for k, labels in enumerate(maps)], np.stack(maps)


def test_sections_become_a_float_stack_in_the_order_of_their_names(tmp_path):
    samples, maps = sections(12)
    predict(tmp_path, samples[::-1])
    stack = tifffile.imread(tmp_path / "probability.tif")
    assert (stack.dtype, stack.shape) == (np.float32, (12, 6, 8))
    assert (stack == maps).all()
    with tifffile.TiffFile(tmp_path / "probability.tif") as file:
        assert len(file.pages) == 12
    single = tifffile.imread(tmp_path / "probability" / "section-03.tif")
    assert single.dtype == np.float32 and (single == maps[3]).all()


def test_sections_of_an_earlier_prediction_are_not_mixed_in(tmp_path):
    predict(tmp_path, sections(3)[0])
    predict(tmp_path, sections(2)[0])
    assert len(tifffile.imread(tmp_path / "probability.tif")) == 2


def test_images_of_several_sizes_make_no_stack(tmp_path, capsys):
    samples = [*sections(1)[0], sample("wide", np.ones((6, 9), np.int64))]
    predict(tmp_path, samples)
    assert "2 sizes" in capsys.readouterr().out
    assert not (tmp_path / "probability.tif").exists()
    assert len(list((tmp_path / "probability").glob("*.tif"))) == 2


def test_a_model_without_probabilities_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="EchoModel gives no probability map"):
        predict(tmp_path, sections(1)[0], EchoModel())


def test_probabilities_are_not_rounded(tmp_path):
    third = torch.full((1, 4, 4), 1 / 3)
    predict(tmp_path, [replace(sample("a", np.ones((4, 4), np.int64)), image=third)])
    assert (tifffile.imread(tmp_path / "probability.tif") == third.numpy()[0]).all()
