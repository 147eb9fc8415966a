"""Lets networks that halve their input several times take images of any size."""

from torch import Tensor, nn
from torch.nn import functional


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Adds rows and columns of zeros to (B, C, H, W) until both sides are multiples of ``multiple`` px.

    Zeros are what the convolutions see beyond every other edge. Where an edge was repeated, objects seemed to go on
    beyond it, and were lost.
    """
    height, width = image.shape[-2:]
    return functional.pad(image, (0, -width % multiple, 0, -height % multiple))


class Padded(nn.Module):
    """Any network, on any image size: pads the image at its right and bottom edge, and cuts the output back.

    Args:
        network: maps (B, C, H, W) to (B, K, H, W) where H and W are multiples of ``multiple``, as the models of
            segmentation_models_pytorch do.
        multiple: px.
    """

    def __init__(self, network: nn.Module, multiple: int = 32) -> None:
        super().__init__()
        self.network = network
        self.multiple = multiple

    def forward(self, image: Tensor) -> Tensor:
        """Maps images (B, C, H, W) to the network's output (B, K, H, W)."""
        height, width = image.shape[-2:]
        output: Tensor = self.network(pad_to_multiple(image, self.multiple))
        return output[..., :height, :width]
