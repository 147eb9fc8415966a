"""Imports what a config can name, so that ``--model DenseSegmenter --model.network UNet`` is enough."""

import importlib
import pkgutil

import datamodules
import lightning_modules
from karyon import networks, representations

importlib.import_module("karyon.detection.postprocessing")
importlib.import_module("karyon.losses")
importlib.import_module("karyon.metrics.membrane")
for package in (networks, representations, datamodules, lightning_modules):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
