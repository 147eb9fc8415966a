"""``python -m cli export``: makes a model bundle of a checkpoint, to keep, to share, and to segment images with."""

import argparse
import hashlib
import json
import warnings
from copy import deepcopy
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from jsonargparse import ArgumentError, ArgumentParser
from lightning import LightningDataModule
from torch import Tensor, nn

from cli.knobs import tuned_config
from cli.runs import trained_at
from datamodules.sample import DataError
from karyon.bundle import WEIGHTS, Card, Config, build_module, build_preparation, write_card, write_weights
from lightning_modules.callbacks.run_record import run_folder
from lightning_modules.segmenter import DenseSegmenter
from lightning_modules.trained import checkpoint_weights, run_config, without_downloads

# What training and evaluation alone need of a module.
LEFT_OUT = ("optimizer", "scheduler", "metrics", "inference", "blocks")
FROM_RECORD = ("command", "commit", "date", "seed", "hardware", "wall_s", "epochs", "parameters")
OPSET = 17


def export(args: list[str]) -> None:
    """Writes the bundle, and reads it back.

    Args:
        args: of the command line, after ``export``.

    Raises:
        DataError: a file is missing or damaged, or the model cannot be kept as a bundle.
    """
    options = _parser().parse_args(args)
    state = checkpoint_weights(options.checkpoint)
    config = run_config(options.checkpoint)
    folder = options.out or run_folder(options.checkpoint) / "bundle"
    preparation = preparation_config(config["data"])
    diameter = options.diameter or training_diameter(config["data"])
    record = evaluations(options.checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    card = Card(
        name=options.name or config["name"],
        licence=options.licence,
        model=inference_config(config["model"], options.checkpoint),
        preparation=preparation,
        object_diameter=diameter,
        data=data_config(config["data"]),
        metrics={stage: record[stage]["metrics"] for stage in ("val", "test") if stage in record},
        training={key: record["fit"][key] for key in FROM_RECORD if key in record.get("fit", {})},
        weights=write_weights(folder, state, options.format, options.half),
        karyon=karyon_version(),
    )
    module = build_module(card, state, folder)
    build_preparation(card, folder)
    write_card(folder, card)
    if options.onnx:
        write_onnx(module, folder / "model.onnx", preparation["channels"])
    size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
    print(f"Wrote {folder} ({size:.1f} MiB): python -m cli segment IMAGES --model {folder}")


def inference_config(model: Config, checkpoint: Path) -> Config:
    """The config of a module without what only training needs, and with the knobs tuned for its checkpoint."""
    init_args = {key: value for key, value in model.get("init_args", {}).items() if key not in LEFT_OUT}
    decoder = init_args.get("decoder")
    if decoder and (tuned := tuned_config(trained_at(checkpoint), decoder["class_path"])):
        init_args["decoder"] = tuned["model"]["init_args"]["decoder"]
    return without_downloads({"class_path": model["class_path"], "init_args": init_args})


def preparation_config(data: Config) -> Config:
    """The card's entry of how images become the network's input."""
    init_args = data.get("init_args", {})
    size = init_args.get("image_size")
    scale: Config = {"class_path": "datamodules.transforms.ScaleToUnit"}
    normalization = init_args.get("normalization") or scale
    if isinstance(normalization, str):
        normalization = {"class_path": normalization}
    return {
        "channels": init_args.get("channels", 3),
        "image_size": [size, size] if isinstance(size, int) else size,
        "normalization": normalization,
    }


def data_config(data: Config) -> Config:
    """The card's entry of what the model was trained on."""
    split = ("test_set", "val_fraction", "val_kinds", "split_seed", "blocks", "fold", "train_on_validation")
    kept = ("manifest", "annotation", *split)
    entry = {key: value for key, value in data.get("init_args", {}).items() if key in kept and value is not None}
    if manifest := entry.get("manifest"):
        path = Path(manifest)
        # Where it lies is the machine's affair.
        entry["manifest"] = path.name
        if path.is_file():
            entry["manifest_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"class_path": data["class_path"], **entry}


def training_diameter(data: Config) -> float | None:
    """The median diameter of the training objects, px; None, and a line that says so, where the data is not at hand."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data", required=True)
    try:
        module = parser.instantiate(parser.parse_object({"data": deepcopy(data)})).data
        module.prepare_data()
        module.setup("fit")
        areas = [np.bincount(labels.ravel())[1:] for _, labels in (item.read() for item in module.items["train"])]
    except (ArgumentError, DataError, OSError, ValueError) as error:
        print(f"The size of the training objects is not known ({error}): give it with --diameter.")
        return None
    area = np.concatenate(areas)
    return round(float(np.median(2 * np.sqrt(area[area > 0] / np.pi))), 2)


def evaluations(checkpoint: Path) -> Config:
    """What the records of a run say of its training, and of the validation and test of this checkpoint."""
    folder = run_folder(checkpoint)
    found: Config = {}
    for stage, path in (("fit", folder), ("val", folder / "validate"), ("test", folder / "test")):
        try:
            record = json.loads((path / "record.json").read_text()).get(stage)
        except (OSError, ValueError):
            continue
        # A run's folder may have been moved since, or be named from elsewhere.
        if record and (stage == "fit" or _ends(record["checkpoint"]) == _ends(checkpoint)):
            found[stage] = record
    return found


def _ends(checkpoint: str | Path) -> tuple[str, ...]:
    return Path(checkpoint).resolve().parts[-3:]


def karyon_version() -> str:
    """The version of the installed package."""
    try:
        return version("karyon")
    except PackageNotFoundError:
        return "unknown"


class Probabilities(nn.Module):
    """The network and what its representation makes of its output: all that comes before the decoder."""

    def __init__(self, module: DenseSegmenter) -> None:
        super().__init__()
        self.network, self.maps = module.network, module.representation.maps

    def forward(self, image: Tensor) -> Tensor:
        """Maps images (B, C, H, W) to maps (B, K, H, W)."""
        return self.maps(self.network(image))


def write_onnx(module: nn.Module, path: Path, channels: int) -> None:
    """Writes network and maps as ONNX, from ``image`` (B, C, H, W) to ``maps``; all but C may have any size.

    Raises:
        DataError: the model is no dense one.
    """
    if not isinstance(module, DenseSegmenter):
        raise DataError(f"{type(module).__name__} cannot be written as ONNX: only dense models can.")
    axes = {0: "batch", 2: "height", 3: "width"}
    with warnings.catch_warnings():
        # The exporter that needs no further package; its successor does.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Probabilities(module).eval(),
            (torch.zeros(1, channels, 64, 96),),
            str(path),
            input_names=["image"],
            output_names=["maps"],
            dynamic_axes={"image": axes, "maps": axes},
            opset_version=OPSET,
            dynamo=False,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cli export", description=__doc__)
    parser.add_argument("checkpoint", metavar="CKPT", type=Path, help="a run's checkpoint, such as best.ckpt")
    parser.add_argument("--out", type=Path, help="folder of the bundle; RUN/bundle by default")
    parser.add_argument("--name", help="of the model; the run's by default")
    parser.add_argument("--half", action="store_true", help="keep the weights in half precision, half the size")
    parser.add_argument("--format", choices=WEIGHTS, default="safetensors", help="of the weights")
    parser.add_argument("--onnx", action="store_true", help="write model.onnx as well: network and maps, no decoder")
    parser.add_argument("--licence", default="BSD-3-Clause", help="of the weights, for the card")
    parser.add_argument("--diameter", type=float, help="of the objects, px; measured on the training data by default")
    return parser
