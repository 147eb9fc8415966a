"""Model bundles made in a moment, without training."""

import dataclasses
import sys
from functools import cache
from pathlib import Path

import torch

from karyon.building import build
from karyon.bundle import ONNX, Card, build_network, file_entry, write_card, write_weights
from karyon.inference.onnx_file import write_onnx
from karyon.losses import SoftDice
from karyon.networks.unet import UNet
from karyon.representations.foreground.loss import Foreground

# What a user types to segment a.tif by the model that lies beside it.
SEGMENT = (sys.executable, "-m", "karyon", "segment", "a.tif", "--model", "bundle", "--device", "cpu")

FOREGROUND = "karyon.representations.foreground"
CARD = Card(
    name="tiny",
    licence="CC0-1.0",
    model={
        "network": {
            "class_path": "torch.nn.Conv2d",
            "init_args": {"in_channels": 1, "out_channels": 1, "kernel_size": 1},
        },
        "representation": {
            "class_path": f"{FOREGROUND}.loss.Foreground",
            "init_args": {"loss": {"class_path": "karyon.losses.SoftDice"}},
        },
        "postprocessing": {
            "class_path": f"{FOREGROUND}.postprocessing.ForegroundPostprocessing",
            "init_args": {"threshold": 0.5, "min_area": 1},
        },
    },
    preprocessing={
        "channels": 1,
        "image_size": None,
        "normalization": {
            "class_path": "karyon.preprocessing.PercentileNormalize",
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


def write_bundle(
    folder: Path, kind: str = "safetensors", half: bool = False, onnx: bool = False, **changes: object
) -> Card:
    """A model that finds what is brighter than the middle between an image's darkest and brightest pixel."""
    state = {"network.weight": torch.full((1, 1, 1, 1), 20.0), "network.bias": torch.full((1,), -10.0)}
    return save(folder, state, kind, half, onnx, **changes)


def write_unet_bundle(folder: Path, onnx: bool = False) -> Card:
    """A U-Net with random weights, on colour images."""
    torch.manual_seed(0)
    init_args = {"widths": [4, 8], "dropout": [0.0, 0.0]}
    state = {f"network.{name}": value for name, value in UNet(**init_args).state_dict().items()}
    network = {"class_path": "karyon.networks.unet.UNet", "init_args": init_args}
    preprocessing = {**CARD.preprocessing, "channels": 3}
    return save(folder, state, onnx=onnx, model={**CARD.model, "network": network}, preprocessing=preprocessing)


DETECTOR = {
    "class_path": "karyon.networks.rcnn.FasterRCNN",
    "init_args": {
        "backbone": {
            "class_path": "karyon.networks.feature_pyramid.ResNetFPN",
            "init_args": {"depth": 18, "channels": 8},
        },
        "proposals": 50,
        "detections": 20,
        "box_convolutions": 0,
    },
}
SEGMENTER = {
    "class_path": "torch.nn.Conv2d",
    "init_args": {"in_channels": 3, "out_channels": 1, "kernel_size": 3, "padding": 1},
}
STAGES = {"detector": DETECTOR, "segmenter": SEGMENTER, "crop_size": 16, "margin": 0.25}
MASKS = {
    "class_path": "karyon.detection.postprocessing.MaskPostprocessing",
    "init_args": {"score_threshold": 0.0, "mask_threshold": 0.3, "min_area": 4},
}


@cache
def stage_weights() -> dict[str, dict[str, torch.Tensor]]:
    """Random weights of a detector and of a segmenter."""
    torch.manual_seed(0)
    networks = {
        stage: build(config, "network", Path()) for stage, config in (("detector", DETECTOR), ("segmenter", SEGMENTER))
    }
    return {stage: dict(network.state_dict()) for stage, network in networks.items()}


def write_two_stage_bundle(folder: Path, **init_args: object) -> Card:
    """A detector and a segmenter of crops with random weights; arguments of their network may be others."""
    state = {f"network.{stage}.{k}": value for stage, own in stage_weights().items() for k, value in own.items()}
    network = {"class_path": "karyon.detection.two_stage.TwoStageNetwork", "init_args": {**STAGES, **init_args}}
    preprocessing = {**CARD.preprocessing, "channels": 3}
    return save(folder, state, model={"network": network, "postprocessing": MASKS}, preprocessing=preprocessing)


def save(
    folder: Path,
    state: dict[str, torch.Tensor],
    kind: str = "safetensors",
    half: bool = False,
    onnx: bool = False,
    **changes: object,
) -> Card:
    folder.mkdir(parents=True, exist_ok=True)
    card = dataclasses.replace(CARD, **{"weights": write_weights(folder, state, kind, half), **changes})
    if onnx:
        network = build_network(card, state, folder)
        write_onnx(network, Foreground(SoftDice()), folder / ONNX, card.preprocessing["channels"])
        card = dataclasses.replace(card, onnx=file_entry(folder / ONNX))
    write_card(folder, card)
    return card
