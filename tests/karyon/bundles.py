"""Model bundles made in a moment, without training."""

import dataclasses
from pathlib import Path

import torch

from karyon.bundle import Card, write_card, write_weights
from lightning_modules.networks.unet import UNet

CARD = Card(
    name="tiny",
    licence="CC0-1.0",
    model={
        "class_path": "lightning_modules.segmenter.DenseSegmenter",
        "init_args": {
            "network": {
                "class_path": "torch.nn.Conv2d",
                "init_args": {"in_channels": 1, "out_channels": 1, "kernel_size": 1},
            },
            "representation": {
                "class_path": "lightning_modules.representations.foreground.Foreground",
                "init_args": {"loss": {"class_path": "lightning_modules.losses.SoftDice"}},
            },
            "decoder": {
                "class_path": "lightning_modules.representations.foreground.ForegroundDecoder",
                "init_args": {"threshold": 0.5, "min_area": 1},
            },
        },
    },
    preparation={
        "channels": 1,
        "image_size": None,
        "normalization": {
            "class_path": "datamodules.transforms.PercentileNormalize",
            "init_args": {"low": 0.0, "high": 100.0},
        },
    },
    object_diameter=12.0,
    data={},
    metrics={},
    training={},
    weights={},
    karyon="0",
)


def write_bundle(folder: Path, kind: str = "safetensors", half: bool = False, **changes: object) -> Card:
    """A model that finds what is brighter than the middle between an image's darkest and brightest pixel."""
    state = {"network.weight": torch.full((1, 1, 1, 1), 20.0), "network.bias": torch.full((1,), -10.0)}
    return save(folder, state, kind, half, **changes)


def write_unet_bundle(folder: Path) -> Card:
    """A U-Net with random weights, on colour images."""
    torch.manual_seed(0)
    init_args = {"widths": [4, 8], "dropout": [0.0, 0.0]}
    state = {f"network.{name}": value for name, value in UNet(**init_args).state_dict().items()}
    network = {"class_path": "lightning_modules.networks.unet.UNet", "init_args": init_args}
    model = {**CARD.model, "init_args": {**CARD.model["init_args"], "network": network}}
    return save(folder, state, model=model, preparation={**CARD.preparation, "channels": 3})


def save(
    folder: Path, state: dict[str, torch.Tensor], kind: str = "safetensors", half: bool = False, **changes: object
) -> Card:
    folder.mkdir(parents=True, exist_ok=True)
    weights = write_weights(folder, state, kind, half)
    card = dataclasses.replace(CARD, **{"weights": weights, **changes})
    write_card(folder, card)
    return card
