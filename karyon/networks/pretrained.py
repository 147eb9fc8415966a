"""Weights that others have trained, as a start for the networks here."""

from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import WeightsEnum

# Mean and standard deviation of ImageNet's red, green and blue in [0, 1]: what torchvision's networks were trained on.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def pretrained_weights(weights: WeightsEnum, in_channels: int, convolution: str, norm: str) -> dict[str, Tensor]:
    """Downloads torchvision's state dict, and makes it one for images in [0, 1], grey or in colour.

    Args:
        weights: one of torchvision's.
        in_channels: 1 or 3.
        convolution, norm: as of `fold_normalization`.

    Returns:
        The state dict, on the CPU.

    Raises:
        ValueError: the weights cannot be downloaded, or there are none for images of so many channels.
    """
    check_channels(in_channels)
    try:
        state = dict(weights.get_state_dict(progress=False, check_hash=True, map_location="cpu", weights_only=True))
    except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: the file's hash is wrong.
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise ValueError(
            f"The weights {weights} cannot be downloaded from {weights.url} ({error}): "
            f"put that file into {folder}, or set pretrained to none."
        ) from error
    return fold_normalization(state, in_channels, convolution, norm, MEAN, STD)


def fold_normalization(
    state: Mapping[str, Tensor],
    in_channels: int,
    convolution: str,
    norm: str,
    mean: Sequence[float],
    std: Sequence[float],
) -> dict[str, Tensor]:
    """Makes weights for normalised images in colour ones for images in [0, 1], grey or in colour.

    The normalisation, linear, moves into the first convolution's weights and the running mean of the batch norm after
    it; a grey image counts as red, green and blue at once. The network gives what it gave for the normalised image, but
    where its first kernel reaches over the image's edge: the padding there is black, no longer the mean. So pretrained
    weights are a start only; the network is the same with and without them.

    Args:
        state: a state dict.
        in_channels: 1 or 3.
        convolution: name of the first convolution in the state dict; its bias, if any, stays.
        norm: name of the batch norm after it.
        mean, std: of red, green and blue in [0, 1], by which images were normalised.
    """
    offset, scale = (torch.tensor(values)[:, None, None] for values in (mean, std))
    scaled = state[f"{convolution}.weight"] / scale
    return {
        **state,
        f"{norm}.running_mean": state[f"{norm}.running_mean"] + (scaled * offset).sum((1, 2, 3)),
        f"{convolution}.weight": scaled if in_channels == 3 else scaled.sum(1, keepdim=True),
    }


def check_channels(in_channels: int) -> None:
    """Pretrained weights are for colour, and can be made ones for grey.

    Raises:
        ValueError: images have another number of channels.
    """
    if in_channels not in (1, 3):
        raise ValueError(f"Pretrained weights are for 1 or 3 channels, not {in_channels}: set pretrained to none.")
