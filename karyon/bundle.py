"""Model bundles: a folder with a model's weights and a card that says what they are and how they are used.

``card.json`` holds what `Card` names; beside it lie ``weights.safetensors``, or ``weights.pt`` (a state dict of plain
tensors), and of dense models ``model.onnx``. A bundle is data: reading it runs no code but classes of a fixed table,
whatever the card asks for; see `karyon.building`.
"""

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from karyon.aliases import Config, upgrade_card
from karyon.building import build
from karyon.errors import DataError
from karyon.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor, nn

VERSION = 2
WEIGHTS = {"safetensors": "weights.safetensors", "torch": "weights.pt"}
ONNX = "model.onnx"
AGAIN = "copy or export the bundle again"

State = dict[str, "Tensor"]


@dataclass(frozen=True)
class Card:
    """What a bundle says of its model.

    Attributes:
        name: of the model.
        licence: of the weights.
        model: ``class_path`` and ``init_args`` of ``network`` and ``postprocessing``, with tuned parameters, and of a
            dense model's ``representation``; ``channels_last``.
        preprocessing: ``channels`` and ``image_size`` of the network's input, and its ``normalization``.
        object_diameter: median diameter of the objects it was trained on (of a disc of equal area), px; None where
            unknown.
        data: what it was trained on.
        metrics: of its record, by stage: ``val`` of validation, ``test`` of the test.
        training: command, commit, date and hardware of its record.
        weights: name of the file, its SHA-256, and the type of its floating-point numbers.
        karyon: version that wrote it.
        onnx: name and SHA-256 of the file for ONNX Runtime; None where there is none.
        version: of this form of bundles.
    """

    name: str
    licence: str
    model: Config
    preprocessing: Config
    object_diameter: float | None
    data: Config
    metrics: dict[str, dict[str, float]]
    training: Config
    weights: dict[str, str]
    karyon: str
    onnx: dict[str, str] | None = None
    version: int = VERSION


def write_weights(folder: Path, state: "Mapping[str, Tensor]", kind: str, half: bool) -> dict[str, str]:
    """Writes a state dict, as numbers of 16 bit where asked and possible; returns the card's entry of it."""
    import safetensors.torch
    import torch

    plain = {name: _halved(value) if half else value for name, value in state.items()}
    # Channels-last weights are not a form of a file.
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in plain.items()}
    path = folder / WEIGHTS[kind]
    if kind == "torch":
        torch.save(plain, path)
    else:
        path.write_bytes(safetensors.torch.save(plain))
    return {**file_entry(path), "precision": "float16" if half else "float32"}


def _halved(value: "Tensor") -> "Tensor":
    """A tensor in half precision; as it is where that would overflow or where it holds no floating-point numbers."""
    halved = value.half()
    return halved if value.is_floating_point() and bool(halved.isfinite().all()) else value


def file_entry(path: Path) -> dict[str, str]:
    """The card's entry of a file: its name and SHA-256."""
    with path.open("rb") as file:
        return {"file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def write_card(folder: Path, card: Card) -> None:
    """Writes ``card.json``."""
    (folder / "card.json").write_text(json.dumps(asdict(card), indent=1) + "\n", encoding="utf-8")


def read_card(folder: Path) -> Card:
    """Reads ``card.json``, of this version or of an earlier one.

    Raises:
        DataError: it is damaged, of a later version, or lacks an entry.
    """
    path = folder / "card.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] > VERSION:
            raise DataError(f"{path} was written by a later Karyon ({content['karyon']}): update Karyon to use it.")
        card = Card(**upgrade_card(content))
    # What is not a card can fail in as many ways as there are ways not to be one.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is not a readable card of a model ({error}): {AGAIN}.") from None
    types = {field.name: field.type for field in fields(Card)}
    for name, expected in {"name": str, "model": dict, "preprocessing": dict, "weights": dict}.items():
        if not isinstance(getattr(card, name), expected):
            raise DataError(f"{path} has no usable entry {name} (expected {types[name]}): {AGAIN}.")
    return card


def checked_file(folder: Path, entry: Mapping[str, str]) -> Path:
    """The file that an entry of a card names, with the content for which the card was written.

    Raises:
        DataError: it is missing or another one.
    """
    path = folder / Path(str(entry.get("file"))).name
    try:
        if file_entry(path)["sha256"] != entry.get("sha256"):
            raise DataError(f"{path} is not the file that its card was written for: {AGAIN}.")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): {AGAIN}.") from None
    return path


def read_weights(folder: Path, card: Card) -> State:
    """Reads the state dict, in the precision in which it was written.

    Raises:
        DataError: the file is missing, damaged, or not the one that the card was written for.
    """
    import safetensors.torch
    import torch
    from safetensors import SafetensorError

    path = checked_file(folder, card.weights)
    try:
        if path.name == WEIGHTS["torch"]:
            state: State = torch.load(path, map_location="cpu", weights_only=True)
            return state
        return safetensors.torch.load_file(path)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged or of another kind"
        raise DataError(f"{path} cannot be read ({reason}): {AGAIN}.") from None


def build_network(card: Card, state: State, name: Path) -> "nn.Module":
    """The network of a card, with its weights, for inference.

    Args:
        card: of the bundle.
        state: its weights, under the names of a training's module: ``network.<name>``.
        name: of the bundle, for errors.

    Raises:
        DataError: the card asks for what bundles may not use, or the weights are of another architecture.
    """
    import torch

    network: nn.Module = build(card.model["network"], name)
    own = {key.removeprefix("network."): value for key, value in state.items() if key.startswith("network.")}
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(value.shape) if isinstance(value, torch.Tensor) else () for key, value in own.items()}
    if expected != found:
        differing = sorted(key for key in expected | found if expected.get(key) != found.get(key))
        raise DataError(
            f"{name}: its weights are of another architecture than its card says ({len(differing)} differ, first "
            f"{differing[0]}): export it again."
        )
    network.load_state_dict(own)
    form = torch.channels_last if card.model.get("channels_last") else torch.contiguous_format
    return network.to(memory_format=form).eval().requires_grad_(False)


def build_preprocessing(card: Card, name: Path) -> Preprocessing:
    """How a card's model wants its images.

    Raises:
        DataError: as `build_network`.
    """
    config = card.preprocessing
    size, channels = config.get("image_size"), config.get("channels")
    good_size = size is None or (isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) for n in size))
    if channels not in (1, 3) or not good_size:
        raise DataError(f"{name}: its card does not say how images are prepared: export it again.")
    return Preprocessing(channels, build(config.get("normalization"), name), tuple(size) if size else None)
