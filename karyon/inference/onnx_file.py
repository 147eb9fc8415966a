"""Writes a dense model for ONNX Runtime: all that comes before the post-processing."""

import io
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from karyon.io.whole_files import write_whole, writing_to

OPSET = 17


class MapsNetwork(nn.Module):
    """A network, and what its representation makes of its output."""

    def __init__(self, network: nn.Module, representation: Any) -> None:
        super().__init__()
        self.network, self.maps = network, representation.maps

    def forward(self, image: Tensor) -> Tensor:
        """Maps images (B, C, H, W) to maps (B, K, H, W)."""
        maps: Tensor = self.maps(self.network(image))
        return maps


def write_onnx(network: nn.Module, representation: Any, path: Path, channels: int) -> None:
    """Writes network and maps as ONNX, from ``image`` (B, C, H, W) to ``maps``; all but C may have any size.

    Args:
        network: of a dense model.
        representation: makes maps of its output.
        path: the file.
        channels: C.

    Raises:
        DataError: it cannot be written.
    """
    axes = {0: "batch", 2: "height", 3: "width"}
    file = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter that needs no package but onnx; its successor does.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            MapsNetwork(network, representation).eval(),
            (torch.zeros(1, channels, 64, 96),),
            file,  # type: ignore[arg-type]  # a file object is taken, too
            input_names=["image"],
            output_names=["maps"],
            dynamic_axes={"image": axes, "maps": axes},
            opset_version=OPSET,
            dynamo=False,
        )
    with writing_to(path.parent):
        write_whole(path, file.getvalue())
