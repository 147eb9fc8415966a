"""Model bundles: a folder with a model's weights and a card that says what they are and how they are used.

``card.json`` holds what `Card` names; beside it lie ``weights.safetensors``, or ``weights.pt`` (a state dict of plain
tensors), and of dense models ``model.onnx``. A bundle is data: reading it runs no code but classes of a fixed table,
whatever the card asks for; see `karyon.building`.
"""

import hashlib
import io
import json
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from karyon.aliases import Config, upgrade_card
from karyon.building import build, fits
from karyon.errors import DataError, first_line
from karyon.io.reading import read_bytes
from karyon.io.tensor_files import load_tensors
from karyon.io.whole_files import write_whole, writing_to
from karyon.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor, nn

VERSION = 2
WEIGHTS = {"safetensors": "weights.safetensors", "torch": "weights.pt"}
ONNX = "model.onnx"
AGAIN = "copy or export the bundle again"
LONGEST = 2**20  # bytes of a card
MOST = 5_000  # parameters that a network consists of
SIDES = range(1, 2**14 + 1)  # px

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
        doubt_below: an image whose objects have a lower mean score is doubtful; None where that was not measured.
        pixel_size: of the images it was trained on, um; None where it was trained on many.
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
    doubt_below: float | None = None
    pixel_size: float | None = None
    onnx: dict[str, str] | None = None
    version: int = VERSION

    @property
    def identity(self) -> str:
        """SHA-256 of all that decides what the model finds and says of it; the same weights may be tuned otherwise."""
        deciding = self.weights["sha256"], self.model, self.preprocessing, self.object_diameter, self.pixel_size
        return hashlib.sha256(json.dumps([*deciding, self.doubt_below], sort_keys=True).encode()).hexdigest()


def write_weights(folder: Path, state: "Mapping[str, Tensor]", kind: str, half: bool) -> dict[str, str]:
    """Writes a state dict, as numbers of 16 bit where asked and possible; returns the card's entry of it.

    Raises:
        DataError: it cannot be written; what lay there before still does.
    """
    import safetensors.torch
    import torch

    plain = {name: _halved(value) if half else value for name, value in state.items()}
    # Channels-last weights are not a form of a file.
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in plain.items()}
    path, file = folder / WEIGHTS[kind], io.BytesIO()
    if kind == "torch":
        torch.save(plain, file)
    else:
        file.write(safetensors.torch.save(plain))
    with writing_to(folder):
        write_whole(path, file.getvalue())
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
    """Writes ``card.json``; raises as `write_weights`."""
    with writing_to(folder):
        write_whole(folder / "card.json", (json.dumps(asdict(card), indent=1) + "\n").encode())


def read_card(folder: Path) -> Card:
    """Reads ``card.json``, of this version or of an earlier one.

    Raises:
        DataError: it is damaged, of a later version, or lacks an entry.
    """
    path = folder / "card.json"
    try:
        content = json.loads(read_bytes(path, LONGEST + 1).decode())
        if content["version"] > VERSION:
            raise DataError(f"{path} was written by a later Karyon than this one: update Karyon to use it.")
        card = Card(**upgrade_card(content))
        return checked_card(card, path)
    # What is not a card can fail in as many ways as there are ways not to be one.
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is not a readable card of a model ({first_line(error)}): {AGAIN}.") from None


def checked_card(card: Card, path: Path) -> Card:
    """A card whose entries are of their types.

    Raises:
        DataError: one is not.
    """
    for entry, expected in typing.get_type_hints(Card).items():
        if not fits(getattr(card, entry), expected):
            raise DataError(f"{path} has no usable entry {entry}: {AGAIN}.")
    lengths = (card.object_diameter, card.pixel_size)
    if card.version != VERSION or not all(length is None or 0 < length < max(SIDES) for length in lengths):
        raise DataError(f"{path} has no usable version, object_diameter or pixel_size: {AGAIN}.")
    return card


def checked_file(folder: Path, entry: Mapping[str, str]) -> Path:
    """The file that an entry of a card names, with the content for which the card was written.

    Raises:
        DataError: it is missing or another one.
    """
    path = folder / Path(entry.get("file", "")).name
    try:
        # Nothing else ends; and the name may hold any character.
        if not path.is_file():
            raise DataError(f"{str(path)!r} is not there, or no file: {AGAIN}.")
        if file_entry(path)["sha256"] != entry.get("sha256"):
            raise DataError(f"{path} is not the file that its card was written for: {AGAIN}.")
    except (OSError, ValueError) as error:
        raise DataError(f"{str(path)!r} cannot be read ({first_line(error)}): {AGAIN}.") from None
    return path


def read_weights(folder: Path, card: Card) -> State:
    """Reads the state dict, in the precision in which it was written.

    Raises:
        DataError: the file is missing, damaged, or not the one that the card was written for.
    """
    import safetensors.torch

    path = checked_file(folder, card.weights)
    if path.name == WEIGHTS["torch"]:
        state: State = load_tensors(path)
    else:
        try:
            state = safetensors.torch.load_file(path)
        # Rust's errors, those of file systems, and what Python says of names and types that are none.
        except Exception:
            raise DataError(f"{path} cannot be read, for it is damaged or of another kind: {AGAIN}.") from None
    check_plain(state, path)
    return state


def check_plain(state: Any, path: Path) -> None:
    """Looks at what a file holds as a state dict, before a network takes it.

    Raises:
        DataError: it is not weights alone, or not all of them are finite.
    """
    import torch

    values: list[Any] = list(state.values()) if isinstance(state, dict) else [None]
    if any(not isinstance(v, torch.Tensor) or v.layout != torch.strided or v.device.type != "cpu" for v in values):
        raise DataError(f"{path} holds what are not weights by their names: {AGAIN}.")
    # One number in the file can stand for any number of weights.
    if sum(value.nbytes for value in values) > path.stat().st_size:
        raise DataError(f"{path} declares more weights than it holds: {AGAIN}.")
    if not all(value.float().isfinite().all() for value in values if value.is_floating_point()):
        raise DataError(f"{path} holds weights that are not finite: train again, and export a checkpoint before that.")


def build_network(card: Card, state: State, name: Path, trusted: bool = False) -> "nn.Module":
    """The network of a card, with its weights, for inference.

    Args:
        card: of the bundle.
        state: its weights, under the names of a training's module: ``network.<name>``.
        name: of the bundle, for errors.
        trusted: whether code of the user's own may be imported and run.

    Raises:
        DataError: the card asks for what bundles may not use, or the weights are of another architecture.
    """
    import torch

    config = card.model.get("network")
    own = {key.removeprefix("network."): value for key, value in state.items() if key.startswith("network.")}
    network: nn.Module
    if not trusted:
        # Without memory for its weights, so that no more is taken than the file has.
        with torch.device("meta"), _bounded():
            network = build(config, "network", name)
        _check_fits(network, own, name)
    network = build(config, "network", name, trusted)
    _check_fits(network, own, name)
    network.load_state_dict(own)
    form = torch.channels_last if card.model.get("channels_last") else torch.contiguous_format
    return network.to(memory_format=form).eval().requires_grad_(False)


@contextmanager
def _bounded() -> Iterator[None]:
    """Ends what would make layers without end."""
    from torch.nn.modules.module import register_module_parameter_registration_hook as on_registration

    left = iter(range(MOST))

    def count(*_: object) -> None:
        if next(left, None) is None:
            raise ValueError(f"it has more than {MOST:,} parameters")

    hook = on_registration(count)
    try:
        yield
    finally:
        hook.remove()


def _check_fits(network: "nn.Module", state: State, name: Path) -> None:
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    if differing := sorted(key for key in expected | found if expected.get(key) != found.get(key)):
        raise DataError(
            f"{name}: its weights are of another architecture than its card says ({len(differing)} differ, first "
            f"{differing[0]!r}): export it again."
        )


def build_preprocessing(card: Card, name: Path, trusted: bool = False) -> Preprocessing:
    """How a card's model wants its images.

    Raises:
        DataError: as `build_network`.
    """
    config = card.preprocessing
    size, channels = config.get("image_size"), config.get("channels", 0)
    good_size = fits(size, tuple[int, int] | None) and all(side in SIDES for side in size or ())
    if not fits(channels, Literal[1, 3]) or not good_size:
        raise DataError(f"{name}: its card does not say how images are prepared: export it again.")
    return Preprocessing(
        channels, build(config.get("normalization"), "normalization", name, trusted), tuple(size) if size else None
    )
