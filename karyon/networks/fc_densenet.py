"""The fully convolutional DenseNet, or Tiramisu: a U-Net of dense blocks."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from karyon.networks.padding import pad_to_multiple


def dense_layer(inputs: int, outputs: int, kernel: int, dropout: float) -> nn.Sequential:
    """Batch norm, ReLU, convolution, dropout."""
    return nn.Sequential(
        nn.BatchNorm2d(inputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2),
        nn.Dropout(dropout),
    )


class DenseBlock(nn.Module):
    """Layers that each take the block's input and all features before them.

    Args:
        in_channels: channels of the input.
        growth_rate: channels that each layer adds.
        layers: their number.
        dropout: rate after each layer.
    """

    def __init__(self, in_channels: int, growth_rate: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            dense_layer(in_channels + k * growth_rate, growth_rate, 3, dropout) for k in range(layers)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, in_channels, H, W) to the new features alone (B, layers * growth_rate, H, W)."""
        stack = [features]
        for layer in self.layers:
            stack.append(layer(torch.cat(stack, dim=1)))
        return torch.cat(stack[1:], dim=1)


class FCDenseNet(nn.Module):
    """The "One Hundred Layers Tiramisu": dense blocks down and up, joined by skip connections.

    The paper's networks are, by ``growth_rate``, ``layers`` and ``bottleneck``:

    * FC-DenseNet56: 12, (4, 4, 4, 4, 4), 4;
    * FC-DenseNet67: 16, (5, 5, 5, 5, 5), 5;
    * FC-DenseNet103, the default: 16, (4, 5, 7, 10, 12), 15.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the output (logits).
        growth_rate: channels that each layer adds.
        layers: of each dense block, from full resolution down; the same going up.
        bottleneck: layers of the deepest dense block.
        first_channels: channels of the first convolution.
        dropout: rate after each convolution but the first, the last and the transposed ones.

    Source: Jegou et al. 2017, "The One Hundred Layers Tiramisu: Fully Convolutional DenseNets for Semantic
        Segmentation", section 3, tables 1 and 2.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        growth_rate: int = 16,
        layers: Sequence[int] = (4, 5, 7, 10, 12),
        bottleneck: int = 15,
        first_channels: int = 48,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, first_channels, 3, padding=1)
        channels = first_channels
        skips: list[int] = []
        self.down = nn.ModuleList()
        self.transition_down = nn.ModuleList()
        for count in layers:
            self.down.append(DenseBlock(channels, growth_rate, count, dropout))
            channels += count * growth_rate
            skips.append(channels)
            transition = dense_layer(channels, channels, 1, dropout)
            self.transition_down.append(nn.Sequential(*transition, nn.MaxPool2d(2)))
        self.bottleneck = DenseBlock(channels, growth_rate, bottleneck, dropout)

        # Going up, a block hands on its new features alone, or the channels would grow too many at full resolution.
        new = bottleneck * growth_rate
        self.transition_up = nn.ModuleList()
        self.up = nn.ModuleList()
        for count, skip in zip(reversed(layers), reversed(skips), strict=True):
            self.transition_up.append(nn.ConvTranspose2d(new, new, 3, stride=2, padding=1, output_padding=1))
            channels = skip + new
            self.up.append(DenseBlock(channels, growth_rate, count, dropout))
            new = count * growth_rate
        self.output = nn.Conv2d(channels + new, out_channels, 1)
        self.multiple = 2 ** len(layers)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        """Maps images (B, in_channels, H, W) of any size to logits (B, out_channels, H, W)."""
        height, width = image.shape[-2:]
        features = self.first(pad_to_multiple(image, self.multiple))
        skips: list[Tensor] = []
        for block, transition in zip(self.down, self.transition_down, strict=True):
            skips.append(torch.cat([features, block(features)], dim=1))
            features = transition(skips[-1])
        new = self.bottleneck(features)
        for transition, block in zip(self.transition_up, self.up, strict=True):
            features = torch.cat([skips.pop(), transition(new)], dim=1)
            new = block(features)
        output: Tensor = self.output(torch.cat([features, new], dim=1))
        return output[..., :height, :width]
