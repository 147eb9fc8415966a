"""Inception-ResNet-v2 as segmentation_models_pytorch has it: padded, so that its maps line up with the image."""

from http.client import HTTPException
from typing import Any, Literal

from huggingface_hub.constants import HF_HUB_CACHE
from segmentation_models_pytorch.encoders import get_encoder

from karyon.networks.pretrained import check_channels, fold_normalization

# What its ImageNet weights were trained on: every colour scaled to [-1, 1].
MEAN = STD = (0.5, 0.5, 0.5)


def inception_resnet(in_channels: int, pretrained: Literal["imagenet", "none"], depth: int) -> Any:
    """Builds the encoder.

    The original's convolutions are not padded, so that its maps are smaller than the image's size by their stride, and
    shifted. Here the value at (i, j) of a map of stride s is centred on the pixel (s i, s j).

    Args:
        in_channels: of the image.
        pretrained: "imagenet" for images in [0, 1].
        depth: number of maps it gives after the image itself, at strides 2, 4 ...; all its blocks are there even so.

    Source: Szegedy et al. 2017, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
        https://arxiv.org/abs/1602.07261

    Raises:
        ValueError: the pretrained weights do not fit or cannot be downloaded.
    """
    if pretrained == "none":
        return get_encoder("inceptionresnetv2", in_channels, depth, weights=None)
    check_channels(in_channels)
    try:
        trained = get_encoder("inceptionresnetv2", 3, depth, weights="imagenet")
    except (OSError, HTTPException) as error:
        raise ValueError(
            f"The ImageNet weights of Inception-ResNet-v2 cannot be downloaded from Hugging Face "
            f"({type(error).__name__}): put the repository smp-hub/inceptionresnetv2.imagenet into {HF_HUB_CACHE}, or "
            "set pretrained to none."
        ) from error
    encoder = get_encoder("inceptionresnetv2", in_channels, depth, weights=None)
    state = fold_normalization(trained.state_dict(), in_channels, "conv2d_1a.conv", "conv2d_1a.bn", MEAN, STD)
    encoder.load_state_dict(state)
    return encoder
