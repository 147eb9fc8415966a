"""The models that come with the project: small, safe to load, described, and of use on images they never saw."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from scipy import ndimage

from datamodules.drawing import draw_nuclei
from karyon import load_model
from karyon.bundle import Card, read_card, write_card
from karyon.commands.models import models
from karyon.layouts.dsb2018_files import open_source, read_entry_image, scan_layout
from karyon.metrics.matching import match_instances
from karyon.model import DEFAULT, MODELS
from karyon.preprocessing import resize_labels
from karyon.representations.flow.postprocessing import FlowPostprocessing

ROOT = Path(__file__).parents[2]
NAMES = sorted(card.parent.name for card in MODELS.glob("*/card.json"))
NUCLEI = [name for name in NAMES if read_card(MODELS / name).object_diameter]
ANY_NUCLEI = [name for name in NUCLEI if name != "tissue"]
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
    assert card.name == name and card.licence and card.data
    assert bool(card.object_diameter) != bool(card.pixel_size)
    assert card.model["postprocessing"]["init_args"].keys() >= {"threshold", "min_area"}
    assert {"commit", "seed", "hardware"} <= card.training.keys()
    # Of the images that it is for.
    assert max(value for key, value in card.metrics["test"].items() if key.startswith("test/dsb_score")) > 0.3


def test_models_are_told_by_what_they_are_for(capsys: pytest.CaptureFixture[str]) -> None:
    models([], "karyon models")
    said = capsys.readouterr().out
    card = read_card(MODELS / "tissue")
    score = card.metrics["test"]["test/dsb_score/MoNuSeg"]
    assert "  trained on DSB2018, MoNuSeg; objects of about 19 px\n" in said
    # Not of the fluorescence images that are tested, too.
    assert f"DSB2018 purple-on-white 0.257, MoNuSeg {score:.3f}\n" in said
    score = read_card(MODELS / DEFAULT).metrics["test"]["test/dsb_score"]
    assert f"{DEFAULT} (the default): " in said and f"  DSB score on its test images: {score:.3f}\n" in said


def test_fine_tuning_begins_with_what_was_chosen_for_the_model() -> None:
    config = yaml.safe_load((ROOT / "configs" / "finetune.yaml").read_text())
    chosen = read_card(MODELS / config["start_from"]).model["postprocessing"]["init_args"]
    default = dataclasses.asdict(FlowPostprocessing())
    differing = {key: value for key, value in chosen.items() if value != default[key]}
    given = config["model"]["init_args"]["postprocessing"]["init_args"]
    assert {**default, **given} == {**default, **differing}


def test_what_the_default_learned_from_binds_nobody() -> None:
    card = read_card(MODELS / DEFAULT)
    # Its data are CC0; the weights that it starts from are not.
    assert card.licence.startswith("Apache-2.0") and "CC0-1.0" in card.licence
    assert card.object_diameter and 10 < card.object_diameter < 40 and card.doubt_below


@pytest.mark.parametrize("name", ANY_NUCLEI)
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


def packed(share: float, pitch: int = 28, side: int = 224) -> tuple[np.ndarray, np.ndarray]:
    """Discs of several greys in a hexagonal lattice that cover a share of it, and their label image."""
    radius = pitch * np.sqrt(share * np.sqrt(3) / 2 / np.pi)
    rng, (rows, columns) = np.random.default_rng(0), np.mgrid[:side, :side]
    image, labels = np.full((side, side), 12.0), np.zeros((side, side), int)
    height = pitch * np.sqrt(3) / 2
    for row in range(int((side - pitch) / height) + 1):
        for column in range((side - pitch // 2) // pitch):
            centre = pitch / 2 + height * row, pitch / 2 + pitch * (column + row % 2 / 2)
            inside = np.hypot(rows - centre[0], columns - centre[1]) < radius
            image[inside], labels[inside] = rng.uniform(130, 200), labels.max() + 1
    return (ndimage.gaussian_filter(image, 1) + rng.normal(0, 3, image.shape)).clip(0, 255).astype(np.uint8), labels


@pytest.mark.parametrize("share", [0.45, 0.6, 0.75])
@pytest.mark.parametrize("bright", [False, True])
def test_nuclei_that_cover_most_of_an_image_are_found_on_either_ground(share: float, bright: bool) -> None:
    image, labels = packed(share)
    answer = load_model(device="cpu").answer(255 - image if bright else image)
    matching = match_instances(labels, answer.instances.labels)
    assert matching.tp[4] == matching.n_true and matching.n_pred == matching.n_true
    assert answer.view.scale == 1 and not answer.doubtful


@pytest.mark.parametrize("factor", [0.4, 1, 2, 5])
def test_nuclei_of_any_size_come_out_whole(factor: float) -> None:
    image, labels = packed(0.3)
    size = (round(224 * factor),) * 2
    image, labels = (
        cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else 1),
        resize_labels(labels, size),
    )
    matching = match_instances(labels, load_model(device="cpu").segment(image).labels)
    assert matching.tp[0] == matching.n_true == matching.n_pred


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("name", NUCLEI)
def test_real_images_have_the_same_objects_by_either_engine(name: str, tmp_path: Path, real_dsb2018: Path) -> None:
    card = dataclasses.replace(read_card(MODELS / name), onnx=None)
    write_card(tmp_path, card)
    shutil.copy(MODELS / name / card.weights["file"], tmp_path)
    onnx, pytorch = load_model(name, device="cpu"), load_model(tmp_path, device="cpu")
    archive = open_source(real_dsb2018, "stage1_test")
    assert archive is not None
    counts = []
    for entry in scan_layout(archive)[::9]:
        image = read_entry_image(archive, entry)
        found, again = onnx.segment(image), pytorch.segment(image)
        assert len(found) == len(again)
        counts.append(len(found))
        # A pixel on the threshold may fall to either side.
        assert np.mean(found.labels != again.labels) < 1e-4
    # A model of stained tissue finds nothing in fluorescence.
    assert sum(counts) > 0


def test_a_model_segments_without_pytorch() -> None:
    script = (
        "import sys, numpy, karyon; model = karyon.load_model('nuclei', device='cpu');"
        "model.segment(numpy.eye(64) * 200);"
        "print(*sorted({'torch', 'torchvision', 'lightning', 'torchmetrics'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout == "\n"


def test_cells_between_drawn_membranes_are_found_at_the_scale_that_the_size_of_a_pixel_gives() -> None:
    # Cells of about 70 px around random centres, parted by membranes of 6 px, at 4 nm a pixel.
    rng, (rows, columns) = np.random.default_rng(0), np.mgrid[:384, :384]
    distances = np.sort([np.hypot(rows - y, columns - x) for y, x in rng.uniform(0, 384, (28, 2))], axis=0)[:2]
    cells = ndimage.label(distances[1] - distances[0] > 5)[0]
    image = np.where(cells > 0, 170, 50) + rng.normal(0, 12, cells.shape)
    image = ndimage.gaussian_filter(image, 1).clip(0, 255).astype(np.uint8)
    model = load_model("membranes", device="cpu")
    answer = model.answer(image, pixel_size=0.004, probability=True)
    matching = match_instances(cells, answer.instances.labels)
    assert answer.view.scale == 1 and matching.tp[0] > 0.8 * matching.n_true
    assert answer.probability is not None and answer.probability[cells > 0].mean() > 0.8
    assert answer.probability[cells == 0].mean() < 0.5
    assert model.answer(image[::2, ::2], pixel_size=0.008).view.scale == 2
