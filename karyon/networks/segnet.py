"""SegNet: VGG16's convolutions, and their mirror image that puts every maximum back where the pooling found it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models import VGG16_BN_Weights

from karyon.networks.hed import hed_convolutions
from karyon.networks.padding import pad_to_multiple
from karyon.networks.pretrained import pretrained_weights

VGG16_WIDTHS = (64, 128, 256, 512, 512)
VGG16_CONVOLUTIONS = (2, 2, 3, 3, 3)


def unpool(features: Tensor, indices: Tensor) -> Tensor:
    """Puts the maxima of a 2x2 max pooling back to their places, and zeros elsewhere.

    Does what ``nn.MaxUnpool2d`` does, which has no deterministic implementation.

    Args:
        features: (B, C, H, W).
        indices: (B, C, H, W), as ``nn.MaxPool2d(2, return_indices=True)`` returns them.

    Returns:
        (B, C, 2H, 2W).

    >>> unpool(torch.tensor([[[[5.0]]]]), torch.tensor([[[[2]]]])).tolist()
    [[[[0.0, 0.0], [5.0, 0.0]]]]
    """
    batch, channels, height, width = features.shape
    zeros = features.new_zeros(batch, channels, 4 * height * width)
    unpooled = zeros.scatter(2, indices.flatten(2), features.flatten(2))
    return unpooled.view(batch, channels, 2 * height, 2 * width)


def convolutions(*widths: int) -> list[nn.Module]:
    """3x3 convolution, batch norm and ReLU from each width to the next."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return layers


class SegNet(nn.Module):
    """SegNet, and with ``skips=1`` U-SegNet: U-Net's skip connection at full resolution.

    The paper ends in a softmax over the classes. Over two classes it equals the sigmoid of the difference of their
    logits, so one output channel is enough for membranes or nuclei.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the output (logits).
        widths: channels of each level, from full resolution down, at most five; levels have 2, 2, 3, 3, 3 convolutions.
        skips: number of levels, from full resolution down, whose encoder features join the unpooled ones.
        pretrained: "imagenet" starts the encoder with torchvision's VGG16 (with batch norm), for images in [0, 1];
            "hed" starts its convolutions with those of an edge detector, see `karyon.networks.hed`.

    Source: Badrinarayanan et al. 2015, "SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image
        Segmentation", section 3; Kumar et al. 2018, "U-SegNet: Fully convolutional neural network based automated brain
        tissue segmentation tool".

    Raises:
        ValueError: there are too many widths or skips, or the pretrained weights do not fit or cannot be downloaded.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        widths: Sequence[int] = VGG16_WIDTHS,
        skips: int = 0,
        pretrained: Literal["imagenet", "hed", "none"] = "none",
    ) -> None:
        super().__init__()
        if not 1 <= len(widths) <= len(VGG16_CONVOLUTIONS):
            raise ValueError(f"SegNet has {len(widths)} widths: give one to {len(VGG16_CONVOLUTIONS)}.")
        if not 0 <= skips <= len(widths):
            raise ValueError(f"SegNet has {skips} skip connections: give 0 to {len(widths)}, one a level at most.")
        if pretrained != "none" and tuple(widths) != VGG16_WIDTHS:
            raise ValueError(f"SegNet's pretrained weights are for the widths {VGG16_WIDTHS}, not {tuple(widths)}.")

        # One flat sequence with the layers numbered as in torchvision's vgg16_bn().features: it takes their weights.
        encoder: list[nn.Module] = []
        decoder: list[nn.Module] = []
        inputs = (in_channels, *widths[:-1])
        for level, (shallow, width, count) in enumerate(zip(inputs, widths, VGG16_CONVOLUTIONS, strict=False)):
            encoder += [*convolutions(shallow, *[width] * count), nn.MaxPool2d(2, return_indices=True)]
            joined = 2 * width if level < skips else width
            layers = convolutions(joined, *[width] * (count - 1), shallow if level else out_channels)
            # The last convolution gives the logits.
            decoder.insert(0, nn.Sequential(*(layers if level else layers[:-2])))
        self.encoder = nn.Sequential(*encoder)
        self.decoder = nn.ModuleList(decoder)
        self.multiple = 2 ** len(widths)
        self.skips = skips
        self._initialise()
        if pretrained == "imagenet":
            vgg16 = pretrained_weights(VGG16_BN_Weights.IMAGENET1K_V1, in_channels, "features.0", "features.1")
            features = {name: weight for name, weight in vgg16.items() if name.startswith("features.")}
            self.encoder.load_state_dict({name.removeprefix("features."): weight for name, weight in features.items()})
        if pretrained == "hed":
            own = (layer for layer in self.encoder if isinstance(layer, nn.Conv2d))
            for layer, (weight, bias) in zip(own, hed_convolutions(in_channels), strict=True):
                layer.load_state_dict({"weight": weight, "bias": bias})

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        """Maps images (B, in_channels, H, W) of any size to logits (B, out_channels, H, W)."""
        height, width = image.shape[-2:]
        features = pad_to_multiple(image, self.multiple)
        skips: list[Tensor] = []
        indices: list[Tensor] = []
        for layer in self.encoder:
            if isinstance(layer, nn.MaxPool2d):
                skips += [features] if len(indices) < self.skips else []
                features, places = layer(features)
                indices.append(places)
            else:
                features = layer(features)
        for stage in self.decoder:
            features = unpool(features, indices.pop())
            if len(indices) < self.skips:
                features = torch.cat([skips.pop(), features], dim=1)
            features = stage(features)
        return features[..., :height, :width]
