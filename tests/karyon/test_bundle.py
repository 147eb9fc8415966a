"""A bundle gives its model back, runs nothing but what is trusted, and says in one sentence what is wrong with it."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import CARD, write_bundle

from karyon import load_model
from karyon.building import build
from karyon.bundle import build_network, read_card, read_weights, write_card, write_weights

STATE = {
    "bias": torch.tensor([0.1, -7.0]),
    "weight": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "large": torch.tensor([1e6]),
    "steps": torch.tensor(12345678),
}
UNET = "karyon.networks.unet.UNet"
NAME = Path("b")
SMP = "segmentation_models_pytorch.Unet"


@pytest.mark.parametrize("file", ["safetensors", "torch"])
@pytest.mark.parametrize("half", [False, True])
def test_weights_come_back(tmp_path, file, half):
    entry = write_weights(tmp_path, STATE, file, half)
    state = read_weights(tmp_path, dataclasses.replace(CARD, weights=entry))
    for name, value in STATE.items():
        # Whole numbers stay whole, and what half precision cannot hold stays as it is.
        expected = value.half() if half and name in ("bias", "weight") else value
        assert state[name].dtype == expected.dtype and torch.equal(state[name], expected)


def test_a_file_of_torch_needs_nothing_of_ours(tmp_path):
    write_bundle(tmp_path, "torch")
    state = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert {name: value.item() for name, value in state.items()} == {"network.weight": 20, "network.bias": -10}


def test_the_card_is_json_and_half_precision_weights_compute_in_single(tmp_path):
    card = write_bundle(tmp_path, half=True)
    assert json.loads((tmp_path / "card.json").read_text())["weights"]["precision"] == "float16"
    assert read_card(tmp_path) == card
    network = build_network(card, read_weights(tmp_path, card), tmp_path)
    assert {value.dtype for value in network.parameters()} == {torch.float32} and not network.training


@pytest.mark.parametrize("part", ["network", "representation", "postprocessing", "normalization"])
@pytest.mark.parametrize(
    "path",
    [
        *("os.system", "builtins.print", "torch.hub.load", "karyon.model.load_model", "karyon.networks.unet.nn.Linear"),
        *("segmentation_models_pytorch.from_pretrained", "torch.nn.no_such_thing", "torch.nn.ReLU", "this.s"),
    ],
)
def test_a_card_that_names_foreign_code_is_refused(tmp_path, path, part, refused):
    entry, of_model = {"class_path": path}, part != "normalization"
    model = {**CARD.model, part: entry} if of_model else CARD.model
    preprocessing = CARD.preprocessing if of_model else {**CARD.preprocessing, part: entry}
    write_bundle(tmp_path, model=model, preprocessing=preprocessing)
    with refused(f"asks for {path}, which is not one of the classes"):
        load_model(tmp_path, device="cpu")
    # Its import would have printed a poem.
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    ("path", "arguments", "message"),
    [
        (UNET, {"depth": 3}, "has no argument depth"),
        (UNET, {"widths": 3}, "UNet.widths is 3, which is not of its type"),
        (UNET, {"widths": ["a"]}, "which is not of its type"),
        (UNET, {"in_channels": "3"}, "which is not of its type"),
        (UNET, {"in_channels": True}, "which is not of its type"),
        (UNET, {"widths": [4, 8], "dropout": [0.0]}, "cannot be built (UNet has 2 widths and 1 dropout rates"),
        (UNET, {"activation": {"class_path": "os.system"}}, "asks for os.system"),
        (
            UNET,
            {"activation": {"class_path": "torch.nn.ReLU", "init_args": {"inplace": {"class_path": UNET}}}},
            "asks for",
        ),
        (UNET, {"activation": {"class_path": "torch.nn.ReLU", "more": 1}}, "what is not a class with arguments"),
        (SMP, {"encoder_name": "tu-hf-hub:someone/weights"}, "is not the name of an encoder"),
        (SMP, {"encoder_name": ["resnet18"]}, "is not the name of an encoder"),
        (SMP, {"kwargs": {}}, "has no argument kwargs"),
        ("karyon.losses.Sum", {"losses": [{"class_path": "os.system"}]}, "asks for os.system"),
    ],
)
def test_arguments_are_checked_before_anything_is_built(path, arguments, message, refused):
    with refused("bundle", message):
        build({"class_path": path, "init_args": arguments}, "loss" if "losses" in path else "network", Path("bundle"))


OWN = """
from torch import nn
class Own(nn.Conv2d):
    def __init__(self, rate: "Nothing", parts):
        super().__init__(1, 1, 1)
        self.rate, self.parts = rate, parts
"""


def test_code_of_the_users_own_runs_where_it_is_trusted(tmp_path, monkeypatch, refused):
    (tmp_path / "own_network.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    parts = [{"class_path": UNET, "init_args": {"widths": [2], "dropout": [0.0]}}, "torch.nn.ReLU"]
    own = {"class_path": "own_network.Own", "init_args": {"rate": 0.5, "parts": parts}}
    write_bundle(tmp_path, model={**CARD.model, "network": own})
    with refused("asks for own_network.Own, which is not one of the classes", "--trust mine"):
        load_model(tmp_path, device="cpu")
    assert "own_network" not in sys.modules
    model = load_model(tmp_path, device="cpu", trusted=True)
    assert model.segment(np.eye(3)).labels.tolist() == np.eye(3).tolist() and "own_network" in sys.modules
    write_bundle(tmp_path, model={**CARD.model, "network": {**own, "class_path": "own_network.Missing"}})
    with refused("own_network.Missing cannot be imported"):
        load_model(tmp_path, device="cpu", trusted=True)


@pytest.mark.parametrize("config", [None, 3, [], {"init_args": {}}, {"class_path": 3}])
def test_what_names_no_class_is_refused(config, refused):
    with refused("bundle: its card names no class where one is expected"):
        build(config, "network", Path("bundle"))


def test_layers_losses_and_encoders_are_built():
    layers = {"activation": {"class_path": "torch.nn.LeakyReLU", "init_args": {"negative_slope": 0.5}}}
    network = build(
        {"class_path": UNET, "init_args": {**layers, "normalization": "torch.nn.BatchNorm2d"}}, "network", NAME
    )
    assert {m.negative_slope for m in network.modules() if isinstance(m, torch.nn.LeakyReLU)} == {0.5}
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    losses = ["karyon.losses.SoftDice", {"class_path": "karyon.losses.SoftIoU"}]
    assert len(build({"class_path": "karyon.losses.Sum", "init_args": {"losses": losses}}, "loss", NAME).losses) == 2
    # Its pretrained weights are not downloaded.
    arguments = {"encoder_name": "resnet18", "encoder_weights": "imagenet", "classes": 2}
    assert (
        build({"class_path": SMP, "init_args": arguments}, "network", NAME).eval()(torch.rand(1, 3, 32, 32)).shape[1]
        == 2
    )


def damage(text):
    return lambda path: path.write_text(text)


@pytest.mark.parametrize(
    ("file", "spoil", "message"),
    [
        ("card.json", damage("{"), "not a readable card"),
        ("card.json", damage("[]"), "not a readable card"),
        ("card.json", damage('{"version": 1}'), "not a readable card"),
        ("card.json", damage('{"version": 2}'), "not a readable card"),
        ("card.json", damage('{"version": 3, "karyon": "9.9"}'), "written by a later Karyon than this one: update"),
        ("weights.safetensors", Path.unlink, "is not there, or no file"),
        ("weights.safetensors", damage("x"), "not the file that its card was written for"),
        ("model.onnx", Path.unlink, "is not there, or no file"),
        ("model.onnx", damage("x"), "not the file that its card was written for"),
    ],
)
def test_what_is_wrong_with_a_bundle_is_one_sentence(tmp_path, file, spoil, message, refused):
    write_bundle(tmp_path, onnx=file == "model.onnx")
    spoil(tmp_path / file)
    with refused(message):
        load_model(tmp_path, device="cpu")


def test_entries_and_weights_that_do_not_fit_are_one_sentence(tmp_path, refused):
    for changes, message in [
        ({"model": 3}, "has no usable entry model"),
        ({"preprocessing": {**CARD.preprocessing, "channels": 2}}, "does not say how images are prepared"),
        ({"preprocessing": {**CARD.preprocessing, "image_size": 3}}, "does not say how images are prepared"),
        ({"model": {**CARD.model, "network": {"class_path": UNET}}}, "its weights are of another architecture"),
    ]:
        write_bundle(tmp_path, **changes)
        with refused(message):
            load_model(tmp_path, device="cpu")


def test_a_model_that_is_not_there_is_one_sentence(tmp_path, refused):
    with refused("There is no model no-such: name the folder"):
        load_model("no-such")
    with refused("name the folder of a bundle, a run's checkpoint"):
        load_model(tmp_path / "best.ckpt")
    write_bundle(tmp_path)
    with refused("There is no device cuda:99"):
        load_model(tmp_path, device="cuda:99")
    assert load_model(tmp_path / "card.json", device="cpu").segment(np.eye(3)).labels.tolist() == np.eye(3).tolist()


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_a_full_disk_leaves_the_bundle_that_was_there(kind: str, tmp_path: Path, refused: Callable) -> None:
    resource = pytest.importorskip("resource")
    write_bundle(tmp_path, kind, onnx=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, limits[1]))
    try:
        with refused("weights.", "cannot be written (File too large): free space"):
            write_bundle(tmp_path, kind, onnx=True)
        with refused(tmp_path / "card.json", "cannot be written"):
            write_card(tmp_path, read_card(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
