"""A trained model: an image's pixels in, its objects out."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningModule

from datamodules.reading import Pixels
from datamodules.sample import DataError, collate
from datamodules.transforms import Preparation
from karyon.bundle import Card, build_module, build_preparation, read_card, read_weights
from lightning_modules.blocks import Block, Blockwise
from lightning_modules.inference import DihedralAverage, Once, Rescaled, enlargement, size_at
from lightning_modules.instances import Instances
from lightning_modules.segmenter import DenseSegmenter

Precision = Literal["fp32", "bf16"]
MODELS = Path(__file__).parents[1] / "models"
DEFAULT = "nuclei"

BLOCK, HALO = 768, 128  # px; less than a gigabyte for a U-Net that begins with 24 channels
FIRST_LOOK = 2048  # px


class Model:
    """Segments images, with the preparation and the knobs that its card names.

    Args:
        module: answers `predict_step`.
        preparation: from pixels to the network's input.
        card: of its bundle.
        device: where it computes.
        tta: whether it looks at each image in its eight rotations and flips.
        precision: of the network.
    """

    def __init__(
        self,
        module: LightningModule,
        preparation: Preparation,
        card: Card,
        device: torch.device,
        tta: bool = False,
        precision: Precision = "fp32",
    ) -> None:
        self.module, self.preparation, self.card, self.device = module.to(device), preparation, card, device
        self.precision = precision
        self.blocks = Blockwise(BLOCK, HALO)
        if isinstance(module, DenseSegmenter):
            module.inference = DihedralAverage() if tta else Once()
        elif tta:
            raise DataError(f"The model {card.name} does not average over rotations and flips: leave that option out.")

    def segment(
        self,
        image: Pixels,
        diameter: float | Literal["auto"] | None = None,
        name: str = "image",
        report: Callable[[float], None] | None = None,
    ) -> Instances:
        """Finds the objects of an image.

        Large images are taken in overlapping blocks, so that memory is bounded but for the image and its result.

        Args:
            image: (H, W) or (H, W, 3 RGB), any dtype.
            diameter: of the image's objects, px: the model looks at the image at the scale at which they are as large
                as those it was trained on. ``"auto"`` takes the median of what it finds in the middle of the image at
                first, and enlarges the image where that is smaller, three times at most. None leaves the image's scale.
            name: of the image, for errors.
            report: is told which share of the image has been looked at, below 1, as often as there is news.

        Returns:
            the objects, at the image's size.

        Raises:
            DataError: the pixels cannot be used, or the model does not know or not choose its scale.
        """
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or 0 in image.shape:
            raise DataError(f"{name}: the shape {image.shape} cannot be used: expected (H, W) or (H, W, 3).")
        scale = 1.0
        if diameter == "auto":
            usual = self._object_diameter(name)
            top, left = (max(0, (side - FIRST_LOOK) // 2) for side in image.shape[:2])
            look = image[top : top + FIRST_LOOK, left : left + FIRST_LOOK]
            found = self._find(look, scale, name, report=None)
            scale = enlargement(usual, found)
            if scale == 1 and look.shape == image.shape:
                return found
        elif diameter is not None:
            scale = self._object_diameter(name) / diameter
        return self._find(image, scale, name, report)

    @torch.inference_mode()
    def _find(self, image: Pixels, scale: float, name: str, report: Callable[[float], None] | None) -> Instances:
        """Finds the objects of an image that is looked at so many times as large."""
        module = self.module
        # A model that sees every image at one size needs no blocks.
        if self.preparation.image_size or not isinstance(module, DenseSegmenter):
            preparation = self.preparation
            if scale != 1:
                preparation = replace(preparation, image_size=size_at(scale, *image.shape[:2]))
            batch = collate([preparation(name, "", image, None)]).to(self.device)
            with self._autocast():
                instances: Instances = module.predict_step(batch)[0].instances
            return instances
        part = self.preparation.parts(name, image)
        inference = module.inference if scale == 1 else Rescaled(scale, module.inference)
        decoder = with_areas_at(scale, module.decoder)

        def find(block: Block) -> Instances:
            if report:
                report(block.share)
            with self._autocast():
                maps = inference.apply(module, part(block.region)[None].to(self.device))[0]
            return decoder(maps)

        # Without the probability of a whole large image, which nobody asks for here.
        return self.blocks.at_scale(scale).find((image.shape[0], image.shape[1]), find)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def _object_diameter(self, name: str) -> float:
        if self.preparation.image_size:
            raise DataError(f"{name}: the model {self.card.name} sees every image at one size: leave the diameter out.")
        if self.card.object_diameter is None:
            raise DataError(f"{name}: the card of {self.card.name} names no object size: leave the diameter out.")
        return self.card.object_diameter


def with_areas_at(scale: float, decoder: Any) -> Any:
    """A decoder for images that are looked at so many times as large.

    It decodes at the image's own size, and its areas, px, were chosen at the model's scale.

    Args:
        scale: how many times as large.
        decoder: a dataclass.
    """
    areas = [field.name for field in fields(decoder) if field.name.endswith("area")]
    return replace(decoder, **{name: round(getattr(decoder, name) / scale**2) for name in areas})


def load_model(
    name: str | Path = DEFAULT, device: str = "auto", tta: bool = False, precision: Precision = "fp32"
) -> Model:
    """Loads a model bundle; runs no code that comes with it.

    Args:
        name: of a model that comes with Karyon, or the folder of a bundle.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        tta: whether to average over the eight rotations and flips of each image; eight times the work.
        precision: of the network; ``bf16`` takes about half the time on recent CPUs and GPUs; single pixels differ.

    Raises:
        DataError: there is no such bundle or device, or the bundle cannot be used.
    """
    folder = find_bundle(name)
    card = read_card(folder)
    module = build_module(card, read_weights(folder, card), folder)
    return Model(module, build_preparation(card, folder), card, find_device(device), tta, precision)


def find_bundle(name: str | Path) -> Path:
    """The folder of a bundle: the one given, that of a file in it, or that of a model of Karyon's."""
    path = Path(name)
    for folder in (path, path.parent, MODELS / name):
        if (folder / "card.json").is_file() and (path.exists() or folder == MODELS / name):
            return folder
    if path.suffix == ".ckpt":
        raise DataError(f"{path} is no model bundle: make one of a checkpoint by python -m cli export {path}.")
    known = ", ".join(sorted(card.parent.name for card in MODELS.glob("*/card.json"))) or "none"
    raise DataError(f"There is no model {name}: name the folder of a bundle, or a model of Karyon's ({known}).")


def find_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        DataError: there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    # PyTorch says by any of these that it has no such device: unknown, not built in, or not there.
    except (RuntimeError, AssertionError, NotImplementedError):
        raise DataError(f"There is no device {name} here: take auto or cpu.") from None
    return device
