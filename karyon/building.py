"""Builds what a bundle's card names: classes of a fixed table, whose arguments are checked first."""

import collections.abc
import importlib
import inspect
import re
import types
import typing
from functools import partial
from pathlib import Path
from typing import Any

from karyon.errors import DataError

Config = dict[str, Any]

NETWORKS = "karyon.networks."
SMP = "segmentation_models_pytorch."
METHODS = ("foreground", "border", "distance", "star", "flow")

CLASSES = frozenset(
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
        *(f"karyon.losses.{name}" for name in ("BinaryCrossEntropy", "SoftDice", "SoftIoU", "Sum")),
        *(f"karyon.representations.{method}.loss.{method.title()}" for method in METHODS),
        *(f"karyon.representations.{m}.postprocessing.{m.title()}Postprocessing" for m in METHODS),
        "karyon.representations.foreground.postprocessing.WatershedPostprocessing",
        "karyon.detection.postprocessing.MaskPostprocessing",
        "karyon.detection.postprocessing.BoxPostprocessing",
        "karyon.preprocessing.ScaleToUnit",
        "karyon.preprocessing.PercentileNormalize",
        "torch.nn.Conv2d",
        "torch.nn.BCEWithLogitsLoss",
    ]
)
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
# Nothing is downloaded to be overwritten by the bundle's weights.
NO_DOWNLOAD = {"encoder_weights": None, "pretrained": "none"}


def build(config: Any, name: Path) -> Any:
    """Makes the object that an entry of a card describes.

    Args:
        config: ``class_path`` and ``init_args``.
        name: of the bundle, for errors.

    Raises:
        DataError: the class is not in the table, or an argument is unknown or of another type.
    """
    path, arguments = _parts(config, name)
    if path not in CLASSES:
        raise DataError(
            f"{name} asks for {path}, which is not one of the classes that bundles may use: export the model again "
            "with one of Karyon's networks, or apply its checkpoint by python -m cli predict."
        )
    made = _load(path)
    expected = inspect.signature(made).parameters
    hints = typing.get_type_hints(made.__init__)
    given = {}
    for key, value in arguments.items():
        if key not in expected and path.startswith(SMP) and (value is None or key == "output_stride"):
            # From its keywords to its encoder, or deprecated and not given: jsonargparse has found and kept them.
            if value not in (None, 32):
                raise DataError(f"{name}: {path} with an output_stride of {value} cannot be a bundle.")
            continue
        if key not in expected or expected[key].kind in (
            inspect.Parameter.VAR_KEYWORD,
            inspect.Parameter.VAR_POSITIONAL,
        ):
            raise DataError(f"{name}: {path} has no argument {key}: export the model again.")
        given[key] = (
            NO_DOWNLOAD[key] if key in NO_DOWNLOAD else _value(value, hints.get(key, Any), f"{path}.{key}", name)
        )
    try:
        return made(**given)
    # Whatever a class says of values that do not go together.
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise DataError(f"{name}: {path} cannot be built ({lines[0]}): export the model again.") from None


def _parts(config: Any, name: Path) -> tuple[str, Config]:
    if isinstance(config, str):
        config = {"class_path": config}
    if not isinstance(config, dict) or not isinstance(config.get("class_path"), str):
        raise DataError(f"{name}: its card names no class where one is expected: copy or export the bundle again.")
    arguments = config.get("init_args") or {}
    if not isinstance(arguments, dict) or set(config) - {"class_path", "init_args"}:
        raise DataError(f"{name}: its card holds what is not a class with arguments: copy or export the bundle again.")
    return config["class_path"], arguments


def _load(path: str) -> Any:
    """A class of the table, which alone decides what is imported."""
    assert path in CLASSES | LAYERS
    module, _, attribute = path.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def _value(value: Any, hint: Any, where: str, name: Path) -> Any:
    """An argument's value, with classes in place of their names."""
    if where.endswith(".encoder_name") and not (isinstance(value, str) and ENCODER.fullmatch(value)):
        raise DataError(f"{name}: {where} is {value!r}, which is not the name of an encoder: export the model again.")
    if isinstance(value, dict) and value.get("class_path") in LAYERS:
        path, arguments = _parts(value, name)
        return partial(_load(path), **{key: _plain(part, where, name) for key, part in arguments.items()})
    if isinstance(value, dict):
        return build(value, name)
    if isinstance(value, list) and any(isinstance(part, dict) for part in value):
        return [build(part, name) for part in value]
    if isinstance(value, str) and (value in LAYERS or value in CLASSES):
        return _load(value) if value in LAYERS else build(value, name)
    value = _plain(value, where, name)
    if not fits(value, hint):
        raise DataError(f"{name}: {where} is {value!r}, which is not of its type: export the model again.")
    return value


def _plain(value: Any, where: str, name: Path) -> Any:
    if isinstance(value, list):
        return [_plain(part, where, name) for part in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise DataError(f"{name}: {where} holds {type(value).__name__}, not a number, a text or a list: export it again.")


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is of a type, as far as types of arguments here go.

    >>> fits([1, 2], collections.abc.Sequence[int]), fits("a", int | None), fits(3, float)
    (True, False, True)
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or hint is inspect.Parameter.empty:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in arguments)
    if origin is typing.Literal:
        return value in arguments
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, hint)
    if origin is tuple or hint is tuple:
        if not isinstance(value, list):
            return False
        if not arguments or arguments[-1] is ...:
            return all(fits(part, arguments[0]) for part in value) if arguments else True
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    if isinstance(origin, type) and issubclass(origin, collections.abc.Sequence):
        return isinstance(value, list) and all(fits(part, arguments[0]) for part in value)
    return False
