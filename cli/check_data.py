"""What ``python -m cli check --config`` looks at: the data of a config as its training would see it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import Namespace
from lightning import LightningDataModule

from cli.config_errors import in_one_sentence
from cli.train import KaryonCLI
from datamodules.base import LabelImageDataModule
from datamodules.crops import CropDataModule
from datamodules.training_checks import common_size, prepare_extremes
from karyon.checks.findings import Finding
from karyon.checks.folders import Parts, find_originals
from karyon.checks.image_facts import Facts
from karyon.checks.object_sizes import (
    View,
    crowded_images,
    large_objects,
    shrunk_objects,
    small_objects,
    unanchored_objects,
)
from karyon.commands.checking import CheckedData
from karyon.errors import DataError
from karyon.layouts.protocol import Size


class FitConfig(KaryonCLI):
    """A command line as ``fit`` reads it, and its data module; nothing is started.

    Attributes:
        model: the config of the model, which is not built.
        datamodule: ready to be set up.
    """

    model: Namespace
    datamodule: LightningDataModule

    def __init__(self, args: list[str]) -> None:
        self.args = args
        super().__init__()

    def parse_arguments(self, parser: Any, args: Any) -> None:
        self.config = parser.parse_args(["fit", *self.args])

    def _set_seed(self) -> None:
        """Leaves the random states alone: what is said does not depend on them."""

    def before_instantiate_classes(self) -> None:
        """Settles nothing: there is no run."""

    def instantiate_classes(self) -> None:
        config = self.config.fit
        self.model = config.model
        with in_one_sentence(config):
            self.datamodule = self._parser("fit").instantiate_classes(Namespace(data=config.data)).data

    def _run_subcommand(self, subcommand: str) -> None:
        """Leaves it at that."""


def of_config(args: list[str]) -> CheckedData:
    """The data of a config.

    Args:
        args: as ``fit`` takes them.

    Raises:
        DataError: the data module is none of Karyon's, or there is no data.
    """
    config = FitConfig(args)
    module = config.datamodule
    if not isinstance(module, LabelImageDataModule):
        raise DataError(
            f"{type(module).__name__} cannot be checked: expected a data module of images and label images."
        )
    images = module.images if isinstance(module, CropDataModule) else module
    try:
        parts = _set_up(images)
    except DataError as error:
        return _refused(images, error)
    print(images.summary())
    check = partial(_against_training, module=module, parts=parts, model=config.model)
    return CheckedData(parts, images.preprocessing.normalization, check)


def _set_up(module: LabelImageDataModule) -> Parts:
    module.prepare_data()
    parts: Parts = {}
    for stage, filled in (("fit", ("train", "val")), ("test", ("test",))):
        module.setup(stage)
        parts |= {part: module.items[part] for part in filled}
    return parts


def _refused(module: LabelImageDataModule, refusal: DataError) -> CheckedData:
    """The originals of a data module that stops at the first thing that is wrong; checking does not."""
    root = getattr(module, "root", None)
    try:
        parts, findings = find_originals(Path(root)) if root else ({}, [])
    except DataError:
        raise refusal from None
    return CheckedData(parts, module.preprocessing.normalization, lambda images: [], findings, str(refusal))


def _against_training(
    images: Sequence[Facts], module: LabelImageDataModule, parts: Parts, model: Namespace
) -> list[Finding]:
    trained = [facts for facts in images if facts.part == "train"]
    size = module.train_preparation.image_size
    if isinstance(module, CropDataModule):
        assert size is not None, "crops of single objects have one size"
        return shrunk_objects(trained, size, module.margin)
    findings, crop = _against_batches(images, module, parts)
    min_area = module.train_preparation.min_area if module.train_preparation.augmentations else 1
    view = View(size, crop, min_area)
    findings += [*small_objects(trained, view), *large_objects(trained, view)]
    network = model.get("init_args.network.init_args") or Namespace()
    if "anchor_sizes" in network:
        # In levels, or in one list.
        sizes = np.hstack(network.anchor_sizes).tolist()
        findings += unanchored_objects(trained, sizes, network.aspect_ratios, view)
        findings += crowded_images(images, network.detections)
    return findings


def _against_batches(
    images: Sequence[Facts], module: LabelImageDataModule, parts: Parts
) -> tuple[list[Finding], Size | None]:
    """What keeps batches from being made, and the size of a training crop."""
    findings = []
    crop = None
    for part, items in parts.items():
        train = part == "train"
        preparation = module.train_preparation if train else module.preparation
        batch_size = module.batch_size if train else module.eval_batch_size
        try:
            samples = prepare_extremes(
                items, [facts for facts in images if facts.part == part], preparation, batch_size
            )
        except DataError as error:
            findings.append(Finding("batch", "error", str(error)))
        else:
            crop = common_size(samples) if train else crop
    return findings, crop
