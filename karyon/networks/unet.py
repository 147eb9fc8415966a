"""The U-Net: an encoder that halves the image, a decoder that doubles it back, skip connections between them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from karyon.networks.padding import pad_to_multiple


class UNet(nn.Module):
    """U-Net with padded convolutions: two a level, 2x2 max pooling down, 2x2 transposed convolution up.

    The defaults are Li & Fu's network (1,941,105 parameters; 19 convolutions and 4 transposed ones, as in Wang & Song).

    Args:
        in_channels: channels of the image.
        out_channels: channels of the output (logits).
        widths: channels of each level, from full resolution down.
        dropout: rate between the two convolutions of each level, the same going up.
        activation: makes the activation after each convolution.
        normalization: makes the layer between convolution and activation, given its channels.

    Source: Ronneberger et al. 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation", section 2;
        Li & Fu, "Nucleus Detection and Segmentation".

    Raises:
        ValueError: there is not one dropout rate for each width.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        dropout: Sequence[float] = (0.1, 0.1, 0.2, 0.2, 0.3),
        activation: Callable[[], nn.Module] = nn.ELU,
        normalization: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if len(widths) != len(dropout):
            raise ValueError(f"UNet has {len(widths)} widths and {len(dropout)} dropout rates: give one rate a width.")

        def level(inputs: int, outputs: int, rate: float) -> nn.Sequential:
            layers: list[nn.Module] = []
            for channels in (inputs, outputs):
                layers.append(nn.Conv2d(channels, outputs, 3, padding=1))
                layers += [normalization(outputs)] if normalization else []
                layers += [activation()]
            layers.insert(len(layers) // 2, nn.Dropout(rate))
            return nn.Sequential(*layers)

        self.multiple = 2 ** (len(widths) - 1)
        inputs = (in_channels, *widths[:-1])
        self.down = nn.ModuleList(map(level, inputs, widths, dropout))
        self.pool = nn.MaxPool2d(2)
        pairs = list(zip(widths[:-1], widths[1:], dropout[:-1], strict=True))[::-1]
        self.upsample = nn.ModuleList(nn.ConvTranspose2d(deep, shallow, 2, stride=2) for shallow, deep, _ in pairs)
        self.up = nn.ModuleList(level(2 * shallow, shallow, rate) for shallow, _, rate in pairs)
        self.output = nn.Conv2d(widths[0], out_channels, 1)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
                # He for what an activation follows, Glorot (Keras's default) for what none does.
                if isinstance(module, nn.Conv2d) and module is not self.output:
                    nn.init.kaiming_normal_(module.weight)
                else:
                    nn.init.xavier_uniform_(module.weight)

    def forward(self, image: Tensor) -> Tensor:
        """Maps images (B, in_channels, H, W) of any size to logits (B, out_channels, H, W)."""
        height, width = image.shape[-2:]
        features = pad_to_multiple(image, self.multiple)
        skips: list[Tensor] = []
        for level in self.down:
            features = level(features if not skips else self.pool(features))
            skips.append(features)
        for upsample, level, skip in zip(self.upsample, self.up, skips[-2::-1], strict=True):
            features = level(torch.cat([skip, upsample(features)], dim=1))
        output: Tensor = self.output(features)
        return output[..., :height, :width]
