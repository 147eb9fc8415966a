"""Builds what a bundle's card names: classes of a fixed table, whose arguments are checked first."""

import collections.abc
import importlib
import inspect
import re
import types
import typing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from karyon.errors import DataError, first_line

Config = dict[str, Any]
Kind = Literal["network", "loss", "representation", "postprocessing", "normalization"]
"""What a part of a model is for."""

NETWORKS = "karyon.networks."
SMP = "segmentation_models_pytorch."
METHODS = ("foreground", "border", "distance", "star", "flow")

CLASSES: dict[Kind, frozenset[str]] = {
    "network": frozenset(
        [
            *(
                f"{NETWORKS}{name}"
                for name in (
                    *("unet.UNet", "segnet.SegNet", "fc_densenet.FCDenseNet", "fcn.TorchvisionFCN", "padding.Padded"),
                    *("simple_cnn.SimpleCNN", "efficientnet_unet.EfficientNetUNet", "rcnn.FasterRCNN", "rcnn.MaskRCNN"),
                    *("single_level_rcnn.SingleLevelFasterRCNN", "feature_pyramid.ResNetFPN"),
                    *("feature_pyramid.InceptionResNetFPN", "feature_pyramid.EfficientNetFPN"),
                )
            ),
            *(
                f"{SMP}{name}"
                for name in (
                    *("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "PAN", "DeepLabV3", "DeepLabV3Plus"),
                    *("UPerNet", "Segformer"),
                )
            ),
            "karyon.detection.two_stage.TwoStageNetwork",
            "torch.nn.Conv2d",
        ]
    ),
    "loss": frozenset(
        [
            *(f"karyon.losses.{name}" for name in ("BinaryCrossEntropy", "SoftDice", "SoftIoU", "Sum")),
            "torch.nn.BCEWithLogitsLoss",
        ]
    ),
    "representation": frozenset(f"karyon.representations.{method}.loss.{method.title()}" for method in METHODS),
    "postprocessing": frozenset(
        [
            *(f"karyon.representations.{m}.postprocessing.{m.title()}Postprocessing" for m in METHODS),
            "karyon.representations.foreground.postprocessing.WatershedPostprocessing",
            "karyon.detection.postprocessing.MaskPostprocessing",
            "karyon.detection.postprocessing.BoxPostprocessing",
        ]
    ),
    "normalization": frozenset(["karyon.preprocessing.ScaleToUnit", "karyon.preprocessing.PercentileNormalize"]),
}
# What the arguments of each may be built of.
PARTS: dict[Kind, Kind] = {"network": "network", "representation": "loss", "loss": "loss"}
# What an argument may name as a class that the network makes layers of.
LAYERS = frozenset(
    f"torch.nn.{name}"
    for name in (
        *("Identity", "ReLU", "LeakyReLU", "PReLU", "ELU", "SELU", "GELU", "SiLU", "Mish", "Sigmoid", "Softplus"),
        *("BatchNorm2d", "InstanceNorm2d", "GroupNorm", "Dropout2d"),
    )
)
# Names of encoders; those with a colon would be looked up at a hub.
ENCODER = re.compile(r"(?!tu-)[a-z0-9_.-]+")
# Nothing is downloaded to be overwritten by the bundle's weights, and where these lie and in which precision is settled
# elsewhere.
SETTLED = {"encoder_weights": None, "pretrained": "none", "device": None, "dtype": None}
VARIABLE = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
LARGEST = 2**20  # of whole numbers: pixels, channels, layers


def build(config: Any, kind: Kind, name: Path, trusted: bool = False) -> Any:
    """Makes the object that an entry of a card describes.

    Args:
        config: ``class_path`` and ``init_args``.
        kind: of object.
        name: of the bundle, for errors.
        trusted: whether code of the user's own may be imported and run.

    Raises:
        DataError: the class is not in the table, or an argument is unknown or of another type.
    """
    try:
        return _Builder(name, trusted).build(config, kind)
    except RecursionError:
        raise DataError(f"{name}: its card holds parts within parts without end: copy or export it again.") from None


@dataclass(frozen=True)
class _Builder:
    name: Path
    trusted: bool

    def build(self, config: Any, kind: Kind | None) -> Any:
        path, arguments = self.parts(config)
        known = kind is not None and path in CLASSES[kind]
        if not known and not self.trusted:
            raise DataError(
                f"{self.name} asks for {path}, which is not one of the classes that bundles may use there: "
                "export the model again with Karyon's; or, if that is code of your own, have it run by --trust mine."
            )
        made = self.load(path)
        given = self.arguments(made, path, arguments, PARTS.get(kind) if kind else None)
        try:
            return made(**given)
        # Whatever a class says of values that do not go together.
        except Exception as error:
            raise self.refusal(f"{path} cannot be built ({first_line(error)})") from None

    def parts(self, config: Any) -> tuple[str, Config]:
        if isinstance(config, str):
            config = {"class_path": config}
        path = config.get("class_path") if isinstance(config, dict) else None
        if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")):
            raise self.refusal("its card names no class where one is expected")
        arguments = config.get("init_args") or {}
        if set(config) - {"class_path", "init_args"} or not isinstance(arguments, dict):
            raise self.refusal(f"its card says of {path} what is not a class with arguments")
        if not all(key.isidentifier() for key in arguments):
            raise self.refusal(f"its card gives {path} an argument whose name is none")
        return path, arguments

    def load(self, path: str) -> Any:
        """A class; where nobody is trusted, one of the table, which alone decides what is imported."""
        assert self.trusted or path in LAYERS.union(*CLASSES.values())
        module, _, attribute = path.rpartition(".")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise self.refusal(f"{path} cannot be imported ({first_line(error)})") from None

    def arguments(self, made: Any, path: str, arguments: Config, kind: Kind | None) -> Config:
        """Arguments of a class, checked, and with objects in place of what describes them."""
        expected = inspect.signature(made).parameters
        # What a class of the user's own takes is the user's affair.
        ours = path in LAYERS.union(*CLASSES.values())
        hints = typing.get_type_hints(made.__init__) if ours else {}
        given = {key: value for key, value in SETTLED.items() if ours and key in expected}
        for key, value in arguments.items():
            if key in given:
                continue
            if key not in expected and path.startswith(SMP) and (value is None or key == "output_stride"):
                # From its keywords to its encoder, or deprecated and not given: jsonargparse has found and kept them.
                if value not in (None, 32):
                    raise DataError(f"{self.name}: {path} with an output_stride of {value!r} cannot be a bundle.")
                continue
            if ours and (key not in expected or expected[key].kind in VARIABLE):
                raise self.refusal(f"{path} has no argument {key}")
            given[key] = self.value(value, hints.get(key, Any), f"{path}.{key}", kind)
        return given

    def value(self, value: Any, hint: Any, where: str, kind: Kind | None) -> Any:
        if where.endswith(".encoder_name") and not (isinstance(value, str) and ENCODER.fullmatch(value)):
            raise self.refusal(f"{where} is {short(value)}, which is not the name of an encoder")
        if isinstance(value, dict):
            path, arguments = self.parts(value)
            if path in LAYERS:
                made = self.load(path)
                return partial(made, **self.arguments(made, path, arguments, None))
            return self.build(value, kind)
        if isinstance(value, list) and any(isinstance(part, dict) for part in value):
            return [self.build(part, kind) for part in value]
        if isinstance(value, str) and value in LAYERS:
            return self.load(value)
        if isinstance(value, str) and kind and value in CLASSES[kind]:
            return self.build(value, kind)
        self.check_plain(value, where)
        if not fits(value, hint):
            raise self.refusal(f"{where} is {short(value)}, which is not of its type")
        return value

    def check_plain(self, value: Any, where: str) -> None:
        if isinstance(value, list):
            for part in value:
                self.check_plain(part, where)
        elif isinstance(value, int | float) and not abs(value) <= LARGEST:
            raise self.refusal(f"{where} is {short(value)}, which is not a number that can be used")
        elif not (value is None or isinstance(value, bool | int | float | str)):
            raise self.refusal(f"{where} holds {type(value).__name__}, not a number, a text or a list")

    def refusal(self, problem: str) -> DataError:
        return DataError(f"{self.name}: {problem}: copy or export the bundle again.")


def short(value: Any) -> str:
    """A value as it may stand in a sentence.

    >>> short([1] * 99)
    '[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, ...'
    """
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is of a type, as far as types of arguments and of entries of a card go.

    >>> fits([1, 2], collections.abc.Sequence[int]), fits("a", int | None), fits({"a": 1}, dict[str, str])
    (True, False, False)
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or hint is inspect.Parameter.empty:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in arguments)
    if origin is typing.Literal:
        return any(value == part and type(value) is type(part) for part in arguments)
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, hint)
    if origin is dict:
        return isinstance(value, dict) and all(fits(part, arguments[1]) for part in value.values())
    if origin is tuple or hint is tuple:
        if not isinstance(value, list):
            return False
        if not arguments or arguments[-1] is ...:
            return all(fits(part, arguments[0]) for part in value) if arguments else True
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    if isinstance(origin, type) and issubclass(origin, collections.abc.Sequence):
        return isinstance(value, list) and all(fits(part, arguments[0]) for part in value)
    return False
