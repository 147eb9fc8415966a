"""A trained model: an image's pixels in, its objects out."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from karyon.arrays import as_plane
from karyon.building import build
from karyon.bundle import Card, build_network, build_preprocessing, checked_file, read_card, read_weights
from karyon.checkpoint import checkpoint_card, checkpoint_weights
from karyon.errors import DataError, first_line
from karyon.image_type import usually_inverted
from karyon.inference.answer import Answer as Answer
from karyon.inference.block_store import BlockStore
from karyon.inference.blocks import Found
from karyon.inference.engines import (
    Engine,
    OnnxEngine,
    Precision,
    TorchEngine,
    choose_device,
    torch_device,
)
from karyon.inference.memory import blocks_within
from karyon.inference.predictor import ImagePredictor, Predictor, Report, halves
from karyon.inference.tissue import find_tissue
from karyon.inference.views import Diameter, View, choose_view
from karyon.instances import Instances
from karyon.io.lazy_image import LazyImage, overview
from karyon.model_names import DEFAULT as DEFAULT
from karyon.model_names import MODELS as MODELS
from karyon.preprocessing import Background, Preprocessing

if TYPE_CHECKING:
    import torch

    from karyon.detection.predictor import Finder


class Model:
    """Segments images, with the preprocessing and the parameters that its card names.

    Args:
        predictor: from prepared images to objects.
        preprocessing: from pixels to the network's input.
        card: of its bundle.
        device: where it computes, and by what, in words.
    """

    def __init__(self, predictor: ImagePredictor, preprocessing: Preprocessing, card: Card, device: str) -> None:
        self.predictor, self.preprocessing, self.card, self.device = predictor, preprocessing, card, device

    def segment(
        self,
        image: Any,
        diameter: Diameter = "auto",
        name: str = "image",
        report: Report | None = None,
        background: Background = "auto",
    ) -> Instances:
        """Finds the objects of an image; see `answer`."""
        return self.answer(image, diameter, name, report, background).instances

    def answer(
        self,
        image: Any,
        diameter: Diameter = "auto",
        name: str = "image",
        report: Report | None = None,
        background: Background = "auto",
        pixel_size: float | None = None,
        probability: bool = False,
        everywhere: bool = False,
        store: BlockStore | None = None,
    ) -> Answer:
        """Finds the objects of an image, and tells how it was seen.

        Large images are taken in overlapping blocks, so that memory is bounded but for the image and its result. A
        `LazyImage` is read block by block, at the coarsest of its resolutions that is not coarser than the model wants;
        where it is a slide in transmitted light, its glass is left out.

        Args:
            image: (H, W) or (H, W, 3 RGB), any dtype; an array of any kind, see `karyon.arrays.as_plane`; or lazy.
            diameter: typical diameter of the image's objects, px; the image is rescaled to the model's size. ``"auto"``
                finds it in a first look, and rescales where it is far from the model's, from an eighth to three
                times. None keeps the image's scale.
            name: of the image, for errors.
            report: is told which share of the image has been looked at, below 1, as often as there is news.
            background: of the image, where it is known. For a model that wants it dark, auto looks both ways and takes
                the one in which it is surer of what it finds.
            pixel_size: of the image, um; brings it to the scale of training where the model's card names one.
            probability: whether the foreground's probability is wanted, too.
            everywhere: whether a slide's glass is looked at, too.
            store: keeps what is found in the blocks of a large image, under a key of the image and the options.

        Raises:
            DataError: the pixels cannot be used, or the model does not know or not choose its scale.
        """
        lazy = isinstance(image, LazyImage) and self.preprocessing.image_size is None
        image = image if lazy else np.asarray(as_plane(image, name=name))
        if diameter == "auto" and not self._knows_scales:
            diameter = None
        if diameter is not None:
            self._check_scale(name)
        scale = self.known_scale(diameter, pixel_size)
        same: dict[str, Any] = {
            "name": name,
            "report": report,
            "probability": probability,
            "everywhere": everywhere,
            "store": store,
        }
        at = partial(self._at, partial(self.answer, **same), image, diameter, background, pixel_size)
        if lazy and scale and (level := image.level_for(scale)):
            return at(level)
        both = background == "auto" and self.preprocessing.wants_dark
        polarities = (False, True) if both else (False,)
        usual = partial(usually_inverted, overview(image))
        tissue = find_tissue(image) if lazy and not everywhere else None
        shown = image.overview[tissue.mask][:, None] if tissue else None
        known = "dark" if both else background
        parts = self.preprocessing.parts(name, image, known, shown)
        size = (image.shape[0], image.shape[1])
        store = store and store.of(known, size, everywhere)
        if self.preprocessing.image_size:
            planes = parts()

            def find(view: View) -> Found:
                seen = 1 - planes if view.inverted else planes
                return self.predictor.at_once(seen[None], [size])[0]

            view, found = choose_view(find, None, None, polarities, usual)
            found = found or find(view)
        else:
            # Half of the work is a first look, where there is one: most often it is all.
            first, second = halves(report) if both or diameter == "auto" else (None, report)
            view, found = self.predictor.look(
                parts, size, diameter, polarities, first, probability, usual, tissue, store
            )
            if diameter is None and scale:
                view, found = replace(view, scale=scale), None
            # Now it is known which way round, and how large.
            if lazy and found is None and (level := image.level_for(view.scale)):
                return at(level, view)
            found = found or self.predictor.find(parts, size, view, second, probability, tissue, store)
        certain, instances = self.predictor.whole(found)
        doubtful = bool(len(instances)) and instances.confidence < (self.card.doubt_below or 0)
        seen = View(view.inverted or parts.inverted, view.scale)
        return Answer(instances, seen, certain, doubtful, tissue=tissue)

    def _at(
        self,
        answer: Callable[..., Answer],
        image: LazyImage,
        diameter: Diameter,
        background: Background,
        pixel_size: float | None,
        level: int,
        view: View | None = None,
    ) -> Answer:
        """Finds the objects of an image at one of its resolutions; see `answer`."""
        factor = image.factor(level)
        if view is not None and self.preprocessing.wants_dark:
            background = "bright" if view.inverted else "dark"
        if view is not None and diameter == "auto" and self.card.object_diameter:
            diameter = self.card.object_diameter / view.scale
        size = pixel_size and pixel_size * factor
        smaller = diameter if diameter in (None, "auto") else float(diameter) / factor
        found = answer(image.at(level), smaller, background=background, pixel_size=size)
        return replace(found, level=found.level + level)

    def known_scale(self, diameter: Diameter, pixel_size: float | None) -> float | None:
        """How many times as large an image is to be seen, where that is known before it is looked at."""
        if diameter is None:
            return pixel_size / self.card.pixel_size if pixel_size and self.card.pixel_size else None
        return None if diameter == "auto" else (self.card.object_diameter or diameter) / diameter

    @property
    def _knows_scales(self) -> bool:
        return self.preprocessing.image_size is None and self.card.object_diameter is not None

    def _check_scale(self, name: str) -> None:
        if self.preprocessing.image_size:
            raise DataError(f"{name}: the model {self.card.name} sees every image at one size: leave the diameter out.")
        if self.card.object_diameter is None:
            raise DataError(f"{name}: the card of {self.card.name} names no object size: leave the diameter out.")


def load_model(
    name: str | Path = DEFAULT,
    device: str = "auto",
    rotations: bool = False,
    precision: Precision = "fp32",
    trusted: bool = False,
    memory: float = math.inf,
) -> Model:
    """Loads a model.

    Args:
        name: of a model of Karyon's, the folder of a bundle, or a run's checkpoint, which lies where fit has put it.
            A checkpoint names no size of its objects but ``rescale_to``: images keep their scale.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``; auto takes CUDA, then MPS, then the CPU.
        rotations: whether it averages over the eight rotations and flips of each image; eight times the work.
        precision: of the network; bf16 computes by torch.
        trusted: whether code of your own that the bundle names may be imported and run.
        memory: bytes that the process is to get along with beside an image and its results: it bounds the blocks.

    Raises:
        DataError: there is no such bundle, checkpoint or device, or it cannot be used.
    """
    place = choose_device(device)
    folder = find_bundle(name)
    card = read_card(folder) if folder.is_dir() else checkpoint_card(folder)
    preprocessing = build_preprocessing(card, folder, trusted)
    postprocessing = build(card.model.get("postprocessing"), "postprocessing", folder, trusted)
    # A model that sees every image at one size needs no blocks.
    blocks = None if preprocessing.image_size else blocks_within(memory, place)
    predictor: ImagePredictor
    if card.model.get("representation"):
        engine, place = _engine(folder, card, place, precision, trusted)
        predictor = Predictor(engine, postprocessing, rotations, blocks, card.object_diameter)
    elif rotations:
        raise DataError(f"The model {card.name} does not average over rotations and flips: leave that option out.")
    else:
        from karyon.detection.predictor import DetectionPredictor

        finder, on = _finder(folder, card, place, trusted)
        predictor = DetectionPredictor(finder, postprocessing, on, precision, blocks, card.object_diameter)
    predictor.origin = name, device, rotations, precision, trusted
    return _tried(Model(predictor, preprocessing, card, place), folder)


def _tried(model: Model, folder: Path) -> Model:
    """A model that has been applied to a small image; those of Karyon's own have been, in its tests.

    Raises:
        DataError: its parts are none that go together.
    """
    if folder.parent == MODELS:
        return model
    try:
        parts = model.preprocessing.parts(str(folder), np.arange(64 * 96, dtype=np.uint16).reshape(64, 96), "dark")
        model.predictor.predict(parts()[None], [(64, 96)], [str(folder)])
    except (DataError, MemoryError):
        raise
    # Whatever a network or a post-processing says of what another one makes.
    except Exception as error:
        raise DataError(
            f"{folder}: its network, preprocessing and post-processing do not go together ({first_line(error)}): "
            "export it again."
        ) from None
    return model


def _engine(folder: Path, card: Card, place: str, precision: Precision, trusted: bool) -> tuple[Engine, str]:
    """ONNX Runtime on a CPU where the bundle has a file for it, else torch."""
    if place == "cpu" and precision == "fp32" and card.onnx and find_spec("onnxruntime"):
        return OnnxEngine(checked_file(folder, card.onnx)), "cpu (ONNX Runtime)"
    device = torch_device(place)
    network = _network(folder, card, device, trusted)
    representation = build(card.model["representation"], "representation", folder, trusted)
    return TorchEngine(lambda image: representation.maps(network(image)), device, precision), f"{place} (PyTorch)"


def _finder(folder: Path, card: Card, place: str, trusted: bool) -> "tuple[Finder, torch.device]":
    """What finds boxes and masks, and the device where it does."""
    from karyon.detection.predictor import NetworkFinder
    from karyon.detection.two_stage import TwoStageNetwork

    device = torch_device(place)
    network = _network(folder, card, device, trusted)
    return network if isinstance(network, TwoStageNetwork) else NetworkFinder(network), device


def _network(folder: Path, card: Card, device: "torch.device", trusted: bool) -> "torch.nn.Module":
    """The network of a bundle, or of a run's checkpoint, with its weights, on a device."""
    weights = read_weights(folder, card) if folder.is_dir() else checkpoint_weights(folder)
    return build_network(card, weights, folder, trusted).to(device)


def find_bundle(name: str | Path) -> Path:
    """The folder of a bundle: the one given, that of a file in it, or that of a model of Karyon's; or a checkpoint."""
    path = Path(name)
    for folder in (path, path.parent, MODELS / name):
        if (folder / "card.json").is_file() and (path.exists() or folder == MODELS / name):
            return folder
    if path.suffix == ".ckpt" and path.is_file():
        return path
    known = ", ".join(sorted(card.parent.name for card in MODELS.glob("*/card.json"))) or "none"
    raise DataError(
        f"There is no model {name}: name the folder of a bundle, a run's checkpoint (.ckpt), or a model of Karyon's "
        f"({known})."
    )
