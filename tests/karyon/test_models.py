"""The models that come with the project: small, safe to load, described, and of use on images they never saw."""

import numpy as np
import pytest
import torch

from datamodules.drawing import draw_nuclei
from karyon import load_model
from karyon.bundle import read_card
from karyon.model import DEFAULT, MODELS
from lightning_modules.metrics import match_instances

NAMES = sorted(card.parent.name for card in MODELS.glob("*/card.json"))


def test_the_default_is_one_of_them() -> None:
    assert DEFAULT in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_small_and_nothing_but_tensors(name: str) -> None:
    card = read_card(MODELS / name)
    path = MODELS / name / card.weights["file"]
    assert path.stat().st_size <= 16 * 2**20
    state = torch.load(path, weights_only=True)
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float16}
    assert sum(value.numel() for value in state.values()) >= card.training["parameters"]


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_it_is(name: str) -> None:
    card = read_card(MODELS / name)
    assert card.name == name
    # Its data are CC0; the weights that it starts from are not.
    assert card.licence.startswith("Apache-2.0") and "CC0-1.0" in card.licence
    assert card.data["annotation"] == "corrected"
    assert card.object_diameter and 10 < card.object_diameter < 40
    assert card.model["init_args"]["decoder"]["init_args"].keys() >= {"threshold", "min_area"}
    assert {"commit", "seed", "hardware"} <= card.training.keys()
    for stage in ("val", "test"):
        assert card.metrics[stage][f"{stage}/dsb_score"] > 0.3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("inverted", [False, True])
def test_drawn_nuclei_are_found_on_dark_and_on_bright_ground(inverted: bool, name: str) -> None:
    pixels, labels = draw_nuclei(np.random.default_rng(1), (192, 192), "fluorescence")
    found = load_model(name).segment(255 - pixels if inverted else pixels)
    matching = match_instances(torch.from_numpy(labels.astype(np.int64)), found.labels)
    assert matching.tp[0] / (matching.n_true + matching.n_pred - matching.tp[0]) > 0.5
