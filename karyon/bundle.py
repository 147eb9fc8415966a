"""Model bundles: a folder with a model's weights and a card that says what they are and how they are used.

``card.json`` holds what `Card` names; beside it lie ``weights.safetensors``, or ``weights.pt`` (a state dict of plain
tensors), and perhaps ``model.onnx``. A bundle is data: reading it runs no code but classes of the packages in
`TRUSTED`, whatever the card asks for.
"""

import hashlib
import importlib
import json
import pickle
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jsonargparse import ArgumentParser
from lightning import LightningModule
from safetensors import SafetensorError
from torch import Tensor

from datamodules.sample import DataError
from datamodules.transforms import Preparation

VERSION = 1
TRUSTED = ("lightning_modules", "datamodules.transforms", "segmentation_models_pytorch", "torch.nn")
WEIGHTS = {"safetensors": "weights.safetensors", "torch": "weights.pt"}

Config = dict[str, Any]
State = dict[str, Tensor]


@dataclass(frozen=True)
class Card:
    """What a bundle says of its model.

    Attributes:
        name: of the model.
        licence: of the weights.
        model: ``class_path`` and ``init_args`` of the module: network, representation and decoder with tuned knobs.
        preparation: ``channels`` and ``image_size`` of the network's input, and its ``normalization``.
        object_diameter: median diameter of the objects it was trained on (of a disc of equal area), px; None where
            unknown.
        data: what it was trained on.
        metrics: of its record, by stage: ``val`` of validation, ``test`` of the test.
        training: command, commit, date and hardware of its record.
        weights: name of the file, its SHA-256, and the type of its floating-point numbers.
        karyon: version that wrote it.
        version: of this form of bundles.
    """

    name: str
    licence: str
    model: Config
    preparation: Config
    object_diameter: float | None
    data: Config
    metrics: dict[str, dict[str, float]]
    training: Config
    weights: dict[str, str]
    karyon: str
    version: int = VERSION


def write_weights(folder: Path, state: Mapping[str, Tensor], kind: str, half: bool) -> dict[str, str]:
    """Writes a state dict, as numbers of 16 bit where asked and possible; returns the card's entry of it."""
    plain = {name: _halved(value) if half else value for name, value in state.items()}
    # Channels-last weights are no form of a file.
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in plain.items()}
    path = folder / WEIGHTS[kind]
    if kind == "torch":
        torch.save(plain, path)
    else:
        path.write_bytes(safetensors.torch.save(plain))
    return {"file": path.name, "sha256": _digest(path), "precision": "float16" if half else "float32"}


def _halved(value: Tensor) -> Tensor:
    """A tensor in half precision; as it is where that would overflow or where it holds no floating-point numbers."""
    halved = value.half()
    return halved if value.is_floating_point() and bool(halved.isfinite().all()) else value


def write_card(folder: Path, card: Card) -> None:
    """Writes ``card.json``."""
    (folder / "card.json").write_text(json.dumps(asdict(card), indent=1) + "\n", encoding="utf-8")


def read_card(folder: Path) -> Card:
    """Reads ``card.json``.

    Raises:
        DataError: it is damaged, of a later form, or lacks an entry.
    """
    path = folder / "card.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] > VERSION:
            raise DataError(f"{path} was written by a later Karyon ({content['karyon']}): update Karyon to use it.")
        return Card(**content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no readable card of a model ({error}): copy or export the bundle again.") from None


def read_weights(folder: Path, card: Card) -> State:
    """Reads the state dict, in the precision in which it was written.

    Raises:
        DataError: the file is missing, damaged, or not the one that the card was written for.
    """
    path = folder / Path(card.weights["file"]).name
    try:
        if _digest(path) != card.weights["sha256"]:
            raise DataError(f"{path} is not the file that its card was written for: copy or export the bundle again.")
        if path.name == WEIGHTS["torch"]:
            state: State = torch.load(path, map_location="cpu", weights_only=True)
            return state
        return safetensors.torch.load_file(path)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged or of another kind"
        raise DataError(f"{path} cannot be read ({reason}): copy or export the bundle again.") from None


def build_module(card: Card, state: State, name: Path) -> LightningModule:
    """The model of a card, with its weights, for inference.

    Raises:
        DataError: the card asks for a class outside `TRUSTED` or for arguments that it does not have, or the weights
            are of another architecture.
    """
    check_trusted(card.model, name)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "model", required=True)
    try:
        # Parsing turns what it is given into objects of its own.
        module = parser.instantiate(parser.parse_object({"model": deepcopy(card.model)})).model
        module.load_state_dict(state)
    # Whatever a class says of arguments that it does not take.
    except Exception as error:
        # The last line that does not repeat what was given.
        lines = [line.strip() for line in str(error).splitlines() if not line.strip().startswith("Given value")]
        reason = next(filter(None, reversed(lines)), type(error).__name__)
        raise DataError(f"{name}: its model cannot be built here ({reason}): export it again.") from None
    return module.eval().requires_grad_(False)


def build_preparation(card: Card, name: Path) -> Preparation:
    """How a card's model wants its images.

    Raises:
        DataError: as `build_module`.
    """
    config = card.preparation
    check_trusted(config, name)
    try:
        normalization = config["normalization"]
        made = resolve(normalization["class_path"])(**normalization.get("init_args", {}))
        size = config["image_size"]
        return Preparation(config["channels"], made, tuple(size) if size else None, originals=False)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{name}: its preparation cannot be built here ({error}): export it again.") from None


def check_trusted(config: Any, name: Path) -> None:
    """Refuses a card that asks for anything but classes of the packages in `TRUSTED`.

    Every text that could be the name of a class or function is looked at, since any may be taken for one.

    Raises:
        DataError: it does.
    """
    if isinstance(config, dict):
        for value in config.values():
            check_trusted(value, name)
    elif isinstance(config, list):
        for value in config:
            check_trusted(value, name)
    elif isinstance(config, str) and re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", config) and not _is_trusted(config):
        raise DataError(
            f"{name} asks for {config}, which is no class of {', '.join(TRUSTED)}: bundles may use nothing else."
        )


def _within(path: str) -> bool:
    return any(path == package or path.startswith(f"{package}.") for package in TRUSTED)


def _is_trusted(path: str) -> bool:
    if not _within(path):
        return False
    try:
        found = resolve(path)
    except (ImportError, AttributeError):
        return False
    # A module's name leads to whatever that module imports, too.
    return isinstance(found, type) and _within(found.__module__)


def resolve(path: str) -> Any:
    """The class of that name."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
