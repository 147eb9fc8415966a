"""Makes a model bundle of a checkpoint: its weights, a card, and the file for ONNX Runtime."""

import argparse
import hashlib
from copy import deepcopy
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from pydoc import locate
from tempfile import TemporaryDirectory

import numpy as np
from jsonargparse import ArgumentError, ArgumentParser
from lightning import LightningDataModule

from cli.bioimageio import write_package
from cli.bundle_sources import find_source
from karyon.aliases import Config
from karyon.building import build
from karyon.bundle import (
    ONNX,
    Card,
    build_network,
    build_preprocessing,
    file_entry,
    read_card,
    read_weights,
    write_card,
    write_weights,
)
from karyon.checkpoint import CONFIGS, preprocessing_config, run_config
from karyon.errors import DataError
from karyon.inference.onnx_file import write_onnx
from karyon.labels import object_areas
from karyon.model import find_bundle

NOT_STATED = "not stated"
NOT_FOR_LABELS = ("normalization", "augmentations", "download")


def export_bundle(options: argparse.Namespace) -> None:
    """Writes the bundle, and reads it back; see `cli.export.export`."""
    trusted = options.trust == "mine"
    if trusted:
        print("--trust mine: code of your own that the run's config names is imported and run.")
    if options.bioimageio is None:
        folder, _ = _write_bundle(options, trusted)
        size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
        print(f"Wrote {folder} ({size:.1f} MiB): python -m cli segment IMAGES --model {folder}")
        return
    if options.bioimageio.suffix != ".zip":
        raise DataError(f"{options.bioimageio} is no name of a package: choose one that ends in .zip.")
    with TemporaryDirectory() as folder_name:
        options.out = Path(folder_name)
        folder, card = _write_bundle(options, trusted)
        if card.onnx is None:
            raise DataError(f"{options.source} finds boxes, for which BioImage.IO has no form: use a dense model.")
        write_package(folder, card, options.bioimageio, options.example, options.author, trusted)
    print(f"Wrote {options.bioimageio}: bioimageio test {options.bioimageio} (uv tool install bioimageio.core)")


def _write_bundle(options: argparse.Namespace, trusted: bool) -> tuple[Path, Card]:
    """Writes the bundle; returns its folder and its card."""
    run = options.source.suffix in (".ckpt", *CONFIGS)
    folder, card = _of_run(options, trusted) if run else _of_bundle(options)
    # What was written: in half precision, and ONNX Runtime is to compute with the same weights as PyTorch.
    network = build_network(card, read_weights(folder, card), folder, trusted)
    build_preprocessing(card, folder, trusted)
    build(card.model["postprocessing"], "postprocessing", folder, trusted)
    if entry := card.model.get("representation"):
        representation = build(entry, "representation", folder, trusted)
        write_onnx(network, representation, folder / ONNX, card.preprocessing["channels"])
        card = replace(card, onnx=file_entry(folder / ONNX))
    write_card(folder, card)
    return folder, card


def _of_run(options: argparse.Namespace, trusted: bool) -> tuple[Path, Card]:
    """Writes the weights that a run has trained; returns the folder and its card."""
    source = find_source(options.source)
    folder = options.out or source.folder / "bundle"
    preprocessing = preprocessing_config(source.data)
    # Objects of any size lie at a scale that the size of a pixel gives.
    diameter = None if options.pixel_size else options.diameter or training_diameter(source.data, trusted)
    licence = inherited_licence(*source.runs)
    folder.mkdir(parents=True, exist_ok=True)
    card = Card(
        name=options.name or source.name,
        licence=weights_licence(options.licence, licence),
        model=source.model,
        preprocessing=preprocessing,
        object_diameter=diameter,
        data={**data_config(source.data), **({"licence": licence} if licence else {})},
        metrics=source.metrics,
        training=source.training,
        weights=write_weights(folder, source.state, options.format, options.half),
        karyon=karyon_version(),
        doubt_below=options.doubt_below,
        pixel_size=options.pixel_size,
    )
    return folder, card


def _of_bundle(options: argparse.Namespace) -> tuple[Path, Card]:
    """Writes the weights of a bundle, or of a model of Karyon's; returns the folder and its card."""
    source = find_bundle(options.source)
    card = read_card(source)
    folder = options.out or Path(card.name)
    if folder.resolve() == source.resolve():
        raise DataError(f"{folder} is the bundle itself: choose another folder with --out.")
    state = read_weights(source, card)
    licence = weights_licence(options.licence, "" if card.licence == NOT_STATED else card.licence)
    half = options.half or card.weights.get("precision") == "float16"
    folder.mkdir(parents=True, exist_ok=True)
    changed = {key: value for key in ("doubt_below", "pixel_size") if (value := getattr(options, key))}
    changed |= {"object_diameter": options.diameter} if options.diameter else {}
    weights = write_weights(folder, state, options.format, half)
    return folder, replace(card, name=options.name or card.name, licence=licence, weights=weights, **changed)


def data_config(data: Config) -> Config:
    """The card's entry of what the model was trained on."""
    split = ("test_set", "val_fraction", "test_fraction", "val_image_types", "split_seed", "split_manifest", "blocks")
    kept = ("manifest", "annotation", "image_types", *split, "group_pattern", "folds", "fold", "train_on_validation")
    entry = {key: value for key, value in data.get("init_args", {}).items() if key in kept and value is not None}
    if split_manifest := entry.get("split_manifest"):
        entry["split_manifest"] = Path(split_manifest).name
    if manifest := entry.get("manifest"):
        path = Path(manifest)
        # Where it lies is the machine's affair.
        entry["manifest"] = path.name
        if path.is_file():
            entry["manifest_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    if datasets := data.get("init_args", {}).get("datasets"):
        entry |= {"weights": data["init_args"].get("weights"), "datasets": [data_config(one) for one in datasets]}
    return {"class_path": data["class_path"], **entry}


def weights_licence(asked: str | None, binding: str) -> str:
    """The licence of a model's weights: that of what it was trained on, where it binds, else what its maker says.

    Raises:
        DataError: another one was asked for.
    """
    if asked and binding and asked != binding:
        raise DataError(f"This model was trained on data under {binding}, as its weights are, too: drop --licence.")
    return asked or binding or NOT_STATED


def inherited_licence(*runs: Config) -> str:
    """The licence of what runs have learned from, be it by way of the weights that they began with."""
    licences = {data_licence(config["data"]) for config in runs}
    for start in filter(None, (config.get("start_from") for config in runs)):
        try:
            checkpoint = Path(start).suffix == ".ckpt"
            earlier = inherited_licence(run_config(Path(start))) if checkpoint else _data_licence_of_bundle(start)
            licences.add(earlier)
        except DataError as error:
            print(f"Under which licence the data of {start} is, is not known ({error})")
    return " AND ".join(sorted(licences - {""}))


def _data_licence_of_bundle(name: str) -> str:
    return str(read_card(find_bundle(name)).data.get("licence", ""))


def data_licence(data: Config) -> str:
    """The licence that data has and hands on to what is made of it; an empty text where it does not bind."""
    init_args = data.get("init_args", {})
    parts = [*init_args.get("datasets", []), *([init_args["images"]] if "images" in init_args else [])]
    # A class of one's own has said nothing of it, and is not imported to be asked.
    known = _lies_in("datamodules", data["class_path"])
    own = getattr(locate(data["class_path"]), "licence", "") if known else ""
    return " AND ".join(sorted({own, *map(data_licence, parts)} - {""}))


def training_diameter(data: Config, trusted: bool = False) -> float | None:
    """The median diameter of the training objects, px; None, and a line that says so, where the data is not at hand."""
    if not trusted and not _of_ours(data := _for_labels(data)):
        print(
            "The size of the training objects is not known (code of your own reads them): give --trust mine or "
            "--diameter."
        )
        return None
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data", required=True)
    try:
        module = parser.instantiate(parser.parse_object({"data": deepcopy(data)})).data
        module.prepare_data()
        module.setup("fit")
        areas = [object_areas(labels) for _, labels in (item.read() for item in module.items["train"])]
    except (ArgumentError, DataError, OSError, ValueError) as error:
        print(f"The size of the training objects is not known ({error}): give it with --diameter.")
        return None
    area = np.concatenate(areas)
    return round(float(np.median(2 * np.sqrt(area[area > 0] / np.pi))), 2)


def _for_labels(data: Config) -> Config:
    """The config of a data module, without what matters to pixels alone, and without downloads."""
    init_args = {key: value for key, value in data.get("init_args", {}).items() if key not in NOT_FOR_LABELS}
    return {"class_path": data["class_path"], "init_args": init_args}


def _of_ours(data: Config) -> bool:
    """Whether a data module is built of Karyon's classes, numbers and texts alone."""
    init_args = dict(data.get("init_args", {}))
    datasets = init_args.pop("datasets", [])
    layout = init_args.pop("layout", None)
    if isinstance(layout, dict) and not layout.get("init_args"):
        layout = layout.get("class_path")
    values = [part for value in init_args.values() for part in (value if isinstance(value, list) else [value])]
    return (
        all(value is None or isinstance(value, bool | int | float | str) for value in values)
        and _lies_in("datamodules", data["class_path"])
        and (layout is None or _lies_in("karyon.layouts", layout))
        and all(map(_of_ours, datasets))
    )


def _lies_in(package: str, path: object) -> bool:
    return str(path).startswith(f"{package}.") and all(part.isidentifier() for part in str(path).split("."))


def karyon_version() -> str:
    """The version of the installed package."""
    try:
        return version("karyon")
    except PackageNotFoundError:
        return "unknown"
