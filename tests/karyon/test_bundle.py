"""A bundle gives its model back, runs nothing but what is trusted, and says in one sentence what is wrong with it."""

import json
import sys

import numpy as np
import pytest
import torch
from bundles import CARD, write_bundle, write_unet_bundle

from datamodules.sample import DataError
from karyon import load_model
from karyon.bundle import check_trusted, read_card, read_weights, write_weights

STATE = {
    "bias": torch.tensor([0.1, -7.0]),
    "weight": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "large": torch.tensor([1e6]),
    "steps": torch.tensor(12345678),
}


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
@pytest.mark.parametrize("half", [False, True])
def test_weights_come_back(tmp_path, kind, half):
    entry = write_weights(tmp_path, STATE, kind, half)
    card = write_bundle(tmp_path / "other")
    state = read_weights(tmp_path, type(card)(**{**card.__dict__, "weights": entry}))
    for name, value in STATE.items():
        if half and name in ("bias", "weight"):
            assert state[name].dtype == torch.float16
            assert (state[name] == value.half()).all()
        else:
            # Whole numbers stay whole, and what half precision cannot hold stays as it is.
            assert state[name].dtype == value.dtype and (state[name] == value).all()


def test_a_file_of_torch_needs_nothing_of_ours(tmp_path):
    write_bundle(tmp_path, "torch")
    state = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert {name: value.item() for name, value in state.items()} == {"network.weight": 20, "network.bias": -10}


def test_the_card_is_json_that_says_what_the_model_is(tmp_path):
    card = write_bundle(tmp_path, half=True)
    assert json.loads((tmp_path / "card.json").read_text())["weights"]["precision"] == "float16"
    assert read_card(tmp_path) == card


def test_half_precision_weights_compute_in_single(tmp_path):
    write_unet_bundle(tmp_path)
    write_bundle(tmp_path / "half", half=True)
    for folder in (tmp_path, tmp_path / "half"):
        assert {value.dtype for value in load_model(folder).module.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "torch.hub.load",
        "lightning_modules.callbacks.run_record.subprocess.Popen",
        "lightning_modules.callbacks.run_record.commit",
        "lightning_modules_of_others.Network",
        "segmentation_models_pytorch.from_pretrained",
        "torch.nn.no_such_thing",
        "this.s",
    ],
)
def test_nothing_but_trusted_classes_is_named(tmp_path, path):
    deep = {"class_path": "torch.nn.Sequential", "init_args": {"args": [{"activation": path}]}}
    with pytest.raises(DataError, match=f"^bundle asks for {path}, which is no class of"):
        check_trusted(deep, "bundle")
    # Its import would have printed a poem.
    assert "this" not in sys.modules


def test_a_card_that_names_foreign_code_is_refused_before_anything_is_built(tmp_path):
    model = {**CARD.model, "init_args": {**CARD.model["init_args"], "network": {"class_path": "os.system"}}}
    write_bundle(tmp_path, model=model)
    with pytest.raises(DataError, match=r"asks for os\.system"):
        load_model(tmp_path)
    preparation = {**CARD.preparation, "normalization": {"class_path": "builtins.print"}}
    write_bundle(tmp_path, preparation=preparation)
    with pytest.raises(DataError, match=r"asks for builtins\.print"):
        load_model(tmp_path)


def test_names_that_are_no_classes_pass():
    check_trusted({"encoder_name": "tu-resnet18.a1_in1k", "widths": [1], "loss": "torch.nn.BCELoss", "x": None}, "b")


def damage(text):
    return lambda path: path.write_text(text)


@pytest.mark.parametrize(
    ("file", "spoil", "message"),
    [
        ("card.json", damage("{"), "no readable card"),
        ("card.json", damage('{"version": 1}'), "no readable card"),
        ("card.json", damage('{"version": 2, "karyon": "9.9"}'), r"written by a later Karyon \(9.9\): update"),
        ("weights.safetensors", lambda path: path.unlink(), r"cannot be read \(No such file"),
        ("weights.safetensors", damage("x"), "not the file that its card was written for"),
    ],
)
def test_what_is_wrong_with_a_bundle_is_one_sentence(tmp_path, file, spoil, message):
    write_bundle(tmp_path)
    spoil(tmp_path / file)
    with pytest.raises(DataError, match=message):
        load_model(tmp_path)


def test_a_model_that_cannot_be_built_is_one_sentence(tmp_path):
    network = {"class_path": "lightning_modules.networks.unet.UNet", "init_args": {"depth": 3}}
    write_bundle(tmp_path, model={**CARD.model, "init_args": {**CARD.model["init_args"], "network": network}})
    # What is wrong, and not all that the card asks for.
    with pytest.raises(DataError, match=r"its model cannot be built here \(.{1,200}\): export it again.$"):
        load_model(tmp_path)
    network["init_args"] = {}
    write_bundle(tmp_path, model={**CARD.model, "init_args": {**CARD.model["init_args"], "network": network}})
    with pytest.raises(DataError, match="its model cannot be built here"):
        load_model(tmp_path)


def test_a_model_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="There is no model no-such: name the folder"):
        load_model("no-such")
    with pytest.raises(DataError, match="make one of a checkpoint by python -m cli export"):
        load_model(tmp_path / "best.ckpt")
    write_bundle(tmp_path)
    with pytest.raises(DataError, match="There is no device cuda:99"):
        load_model(tmp_path, device="cuda:99")
    assert load_model(tmp_path / "card.json", device="cpu").segment(np.eye(3)).labels.tolist() == np.eye(3).tolist()
