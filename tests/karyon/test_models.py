"""The models that come with the project: small, safe to load, described, and of use on images they never saw."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.drawing import draw_nuclei
from karyon import load_model
from karyon.bundle import Card, read_card, write_card
from karyon.layouts.dsb2018_files import open_source, read_entry_image, scan_layout
from karyon.metrics.matching import match_instances
from karyon.model import DEFAULT, MODELS

NAMES = sorted(card.parent.name for card in MODELS.glob("*/card.json"))
# What was where in the cards of version 1, as they were written.
NAMES_OF_VERSION_1 = {
    r"karyon\.networks\.": "lightning_modules.networks.",
    r"karyon\.representations\.(\w+)\.(loss|postprocessing)\.": r"lightning_modules.representations.\1.",
    r"(\w+)Postprocessing": r"\1Decoder",
    r"karyon\.preprocessing\.": "datamodules.transforms.",
    '"postprocessing"': '"decoder"',
    '"preprocessing"': '"preparation"',
}


def of_version_1(card: Card) -> str:
    old = {**dataclasses.asdict(card), "version": 1}
    del old["onnx"]
    old["model"] = {"class_path": "lightning_modules.segmenter.DenseSegmenter", "init_args": card.model}
    text = json.dumps(old)
    for pattern, replacement in NAMES_OF_VERSION_1.items():
        text = re.sub(pattern, replacement, text)
    return text


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
    assert card.model["postprocessing"]["init_args"].keys() >= {"threshold", "min_area"}
    assert {"commit", "seed", "hardware"} <= card.training.keys()
    for stage in ("val", "test"):
        assert card.metrics[stage][f"{stage}/dsb_score"] > 0.3


@pytest.mark.parametrize("name", NAMES)
def test_drawn_nuclei_are_found_on_either_ground_by_onnx_runtime_and_by_torch(name: str, tmp_path: Path) -> None:
    """Torch, by a bundle of version 1, which has no file for ONNX Runtime."""
    card = read_card(MODELS / name)
    (tmp_path / "card.json").write_text(of_version_1(card))
    shutil.copy(MODELS / name / card.weights["file"], tmp_path)
    assert read_card(tmp_path) == dataclasses.replace(card, onnx=None)

    onnx, pytorch = load_model(name, device="cpu"), load_model(tmp_path, device="cpu")
    assert ("ONNX" in onnx.device, "ONNX" in pytorch.device) == (True, False)
    pixels, labels = draw_nuclei(np.random.default_rng(1), (192, 192), "fluorescence")
    for image in (pixels, 255 - pixels):
        found, again = onnx.segment(image), pytorch.segment(image)
        matching = match_instances(labels, found.labels)
        assert matching.tp[0] / (matching.n_true + matching.n_pred - matching.tp[0]) > 0.5
        same = match_instances(found.labels, again.labels)
        assert same.n_true == same.n_pred == same.tp[9]
        np.testing.assert_allclose(found.scores, again.scores, atol=1e-3)


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("name", NAMES)
def test_real_images_have_the_same_objects_by_either_engine(name: str, tmp_path: Path, real_dsb2018: Path) -> None:
    card = dataclasses.replace(read_card(MODELS / name), onnx=None)
    write_card(tmp_path, card)
    shutil.copy(MODELS / name / card.weights["file"], tmp_path)
    onnx, pytorch = load_model(name, device="cpu"), load_model(tmp_path, device="cpu")
    archive = open_source(real_dsb2018, "stage1_test")
    assert archive is not None
    for entry in scan_layout(archive)[::9]:
        image = read_entry_image(archive, entry)
        found, again = onnx.segment(image), pytorch.segment(image)
        assert len(found) == len(again) > 0
        # A pixel on the threshold may fall to either side.
        assert np.mean(found.labels != again.labels) < 1e-4


def test_a_model_segments_without_pytorch() -> None:
    script = (
        "import sys, numpy, karyon; model = karyon.load_model('nuclei', device='cpu');"
        "model.segment(numpy.eye(64) * 200);"
        "print(*sorted({'torch', 'torchvision', 'lightning', 'torchmetrics'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout == "\n"
