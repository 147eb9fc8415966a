"""A trained model, built again from what its run has left: the checkpoint, and the config beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, Namespace
from lightning import LightningModule
from lightning.pytorch.cli import LightningArgumentParser
from torch import Tensor, nn

from karyon.checkpoint import checkpoint_weights, run_config, run_folder
from karyon.errors import DataError, first_line

Config = dict[str, Any]

# The weights are loaded right after: nothing shall be downloaded to be overwritten.
NO_DOWNLOAD = {"encoder_weights": None, "pretrained": "none"}


def load_trained(checkpoint: Path) -> tuple[LightningModule, Config]:
    """Builds the model of a run and loads its weights.

    Args:
        checkpoint: a file in the folder where `fit` has put it, which holds the run's config too.

    Returns:
        the model, and the ``class_path`` and ``init_args`` of the data module that it was trained on.

    Raises:
        DataError: checkpoint or config are missing, damaged, or do not belong together.
    """
    config = run_config(checkpoint)
    path = run_folder(checkpoint) / "config.yaml"
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    try:
        model = parser.parse_object({"model": without_downloads(config["model"])})
        module: LightningModule = parser.instantiate(model).model
    except ArgumentError as error:
        raise DataError(
            f"The model in {path} cannot be built any more ({first_line(error)}): train it again."
        ) from None
    load_weights(module, checkpoint_weights(checkpoint), checkpoint)
    return module, config["data"]


def without_downloads(config: Any) -> Any:
    """A config in which no network starts from others' weights."""
    if isinstance(config, Namespace):
        return Namespace(**without_downloads(vars(config)))
    if isinstance(config, dict):
        return {key: NO_DOWNLOAD.get(key, without_downloads(value)) for key, value in config.items()}
    return [without_downloads(value) for value in config] if isinstance(config, list) else config


def load_weights(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Loads weights of another model of the same architecture.

    Args:
        model: takes them.
        state: its dict of weights, in any precision.
        path: where they come from, for errors.

    Raises:
        DataError: they are those of another architecture.
    """
    check_fits(state, model, path)
    model.load_state_dict(dict(state))


def check_fits(state: Mapping[str, Tensor], model: nn.Module, path: Path) -> None:
    """Compares weights with the model they shall be loaded into.

    Raises:
        DataError: they are those of another architecture.
    """
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    if differing := sorted(name for name in expected | found if expected.get(name) != found.get(name)):
        raise DataError(
            f"{path} is of another architecture than the config says ({len(differing)} weights differ, first "
            f"{differing[0]}): use the config.yaml of its run folder, or the network that its card names."
        )
