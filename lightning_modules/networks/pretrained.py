"""Weights that torchvision has trained, as a start for the networks here."""

from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import WeightsEnum

# Mean and standard deviation of ImageNet's red, green and blue in [0, 1]: what torchvision's networks were trained on.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def pretrained_weights(weights: WeightsEnum, in_channels: int, convolution: str, norm: str) -> dict[str, Tensor]:
    """Downloads a state dict, and makes it one for images in [0, 1], grey or in colour.

    ImageNet's normalisation, linear, moves into the first convolution's weights and the running mean of the batch norm
    after it; a grey image counts as red, green and blue at once. The network gives what it gave for the normalised
    image, but where its first kernel reaches over the image's edge: the padding there is black, no longer ImageNet's
    mean. So pretrained weights are a start only; the network is the same with and without them.

    Args:
        weights: one of torchvision's.
        in_channels: 1 or 3.
        convolution: name of the first convolution in the state dict; its bias, if any, stays.
        norm: name of the batch norm after it.

    Returns:
        The state dict, on the CPU.

    Raises:
        ValueError: the weights cannot be downloaded, or there are none for images of so many channels.
    """
    if in_channels not in (1, 3):
        raise ValueError(f"Pretrained weights are for 1 or 3 channels, not {in_channels}: set pretrained to none.")
    try:
        state = dict(weights.get_state_dict(progress=False, check_hash=True, map_location="cpu", weights_only=True))
    except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: the file's hash is wrong.
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise ValueError(
            f"The weights {weights} cannot be downloaded from {weights.url} ({error}): "
            f"put that file into {folder}, or set pretrained to none."
        ) from error
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    scaled = state[f"{convolution}.weight"] / std
    state[f"{norm}.running_mean"] = state[f"{norm}.running_mean"] + (scaled * mean).sum((1, 2, 3))
    state[f"{convolution}.weight"] = scaled if in_channels == 3 else scaled.sum(1, keepdim=True)
    return state
