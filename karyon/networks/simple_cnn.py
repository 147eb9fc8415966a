"""Plain stacks of convolutions at full resolution: the Simple CNN of Li & Fu and that of Wang & Song."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn


class SimpleCNN(nn.Module):
    """Batch norm, convolutions that keep the size, and an output convolution. No pooling, any image size.

    The defaults are Li & Fu's network: 9,487 trainable parameters and 6 running statistics, together the 9,493 that
    Keras counts.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the output (logits).
        layers: channels, kernel size (px) and dilation of each hidden convolution.
        output_kernel: kernel size of the output convolution, px.
        activation: makes the activation after each hidden convolution; Li & Fu have none.

    Source: Li & Fu, "Nucleus Detection and Segmentation"; Wang & Song, "Using deep learning approaches to segment,
        detect, and extract the cellular nuclei from fluorescence microscopy images".
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        layers: Sequence[tuple[int, int, int]] = ((8, 3, 1), (8, 3, 1), (16, 3, 1), (16, 3, 2), (32, 3, 3), (16, 1, 1)),
        output_kernel: int = 1,
        activation: Callable[[], nn.Module] = nn.Identity,
    ) -> None:
        super().__init__()
        # Keras's defaults: its epsilon, and its momentum .99 in torch's sense.
        blocks: list[nn.Module] = [nn.BatchNorm2d(in_channels, eps=1e-3, momentum=0.01)]
        for channels, kernel, dilation in layers:
            padding = dilation * (kernel - 1) // 2
            blocks += [nn.Conv2d(in_channels, channels, kernel, padding=padding, dilation=dilation), activation()]
            in_channels = channels
        blocks.append(nn.Conv2d(in_channels, out_channels, output_kernel, padding=output_kernel // 2))
        self.blocks = nn.Sequential(*blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        """Maps images (B, in_channels, H, W) to logits (B, out_channels, H, W)."""
        output: Tensor = self.blocks(image)
        return output
