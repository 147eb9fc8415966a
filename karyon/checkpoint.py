"""A checkpoint of a run, and the config beside it, as data: what `export` makes a bundle of and `load_model` reads.

Nothing in them is run, and no class is built but those of `karyon.building`.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from karyon.aliases import Config, upgrade
from karyon.bundle import Card, check_plain, checked_card, file_entry
from karyon.errors import DataError
from karyon.inference.engines import torch_device
from karyon.io.tensor_files import load_tensors

if TYPE_CHECKING:
    from torch import Tensor

Say = Callable[[str], object]
CONFIGS = (".yaml", ".yml")
PARTS = ("network", "representation", "postprocessing", "channels_last")


def run_folder(checkpoint: Path) -> Path:
    """The folder of the run that wrote a checkpoint."""
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def tuned_file(folder: Path, of: str = "") -> Path:
    """Where tuned parameters are kept: ``<of>parameters.json``, or under the name of before where it is there."""
    earlier = folder / f"{of}knobs.json"
    return earlier if earlier.exists() else folder / f"{of}parameters.json"


def checkpoint_card(checkpoint: Path) -> Card:
    """The card of a run's checkpoint, as far as its config knows it: it names no metrics and no licence.

    Args:
        checkpoint: where fit has put it.

    Raises:
        DataError: it or the config beside it is missing, damaged, or of a model that cannot be a bundle.
    """
    check_plain(checkpoint_weights(checkpoint), checkpoint)
    config = run_config(checkpoint)
    arguments = check_parts(config["model"], checkpoint)
    tuned = tuned_file(checkpoint.parent, f"{checkpoint.stem}.")
    card = Card(
        name=config["name"],
        licence="",
        model=model_parts(arguments, tuned, [checkpoint], say=lambda line: None, warn=warnings.warn),
        preprocessing=preprocessing_config(config["data"]),
        # Otherwise known by a look at the training data alone, which `export` takes.
        object_diameter=arguments.get("rescale_to"),
        data={},
        metrics={},
        training={},
        weights=file_entry(checkpoint),
        karyon="",
    )
    return checked_card(card, run_folder(checkpoint) / "config.yaml")


def run_config(checkpoint: Path) -> Config:
    """The entries name, runs_dir, model, data and start_from of the config beside a checkpoint, or of a config itself.

    Raises:
        DataError: it is missing or damaged.
    """
    import yaml

    path = checkpoint if checkpoint.suffix in CONFIGS else run_folder(checkpoint) / "config.yaml"
    try:
        config = upgrade(yaml.safe_load(path.read_bytes()))
        name, runs_dir = config.get("name", path.absolute().parents[1].name), Path(config.get("runs_dir", "runs"))
        parts = {"model": config["model"], "data": config["data"]}
        if not all(isinstance(part.get("init_args", {}), dict) for part in parts.values()):
            raise ValueError
        return {"name": name, "runs_dir": runs_dir, **parts, "start_from": config.get("start_from")}
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(
            f"{path} is not a readable config of a run: name a checkpoint that lies where fit has put it, such as "
            "runs/NAME/version_0/checkpoints/best.ckpt."
        ) from None


def checkpoint_weights(checkpoint: Path) -> dict[str, "Tensor"]:
    """The state dict of a checkpoint; its tensors are read from the file when they are first used.

    Raises:
        DataError: it is missing or no checkpoint.
    """
    # Says what to do where it is not installed.
    torch_device("cpu")
    from torch import Tensor

    content = load_tensors(checkpoint, mapped=True)
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{checkpoint} is not a checkpoint: it holds no weights under state_dict.")
    return state


def check_parts(model: Config, checkpoint: Path) -> Config:
    """The arguments of a model that can be a bundle.

    Args:
        model: the config's entry.
        checkpoint: of it, for errors.

    Raises:
        DataError: it has no network and post-processing.
    """
    arguments: Config = model.get("init_args", {})
    if arguments.get("network") is None or arguments.get("postprocessing") is None:
        raise DataError(
            f"{checkpoint} is of a {str(model.get('class_path')).rpartition('.')[2]}, which cannot be a bundle: export "
            "dense models, detectors and, by their config, two stages."
        )
    return arguments


def model_parts(model: Config, tuned: Path, checkpoints: Sequence[Path], say: Say, warn: Say) -> Config:
    """The card's entry of a model: its parts, with the parameters tuned for its checkpoints.

    Args:
        model: its arguments.
        tuned, checkpoints, say, warn: see `tuned_config`.

    Raises:
        DataError: the file of the tuned parameters is damaged.
    """
    parts = {key: value for key, value in model.items() if key in PARTS and value is not None}
    postprocessing = parts["postprocessing"]
    path = postprocessing.get("class_path") if isinstance(postprocessing, dict) else postprocessing
    if config := tuned_config(tuned, checkpoints, str(path), say, warn):
        parts["postprocessing"] = config["model"]["init_args"]["postprocessing"]
    return parts


def preprocessing_config(data: Config) -> Config:
    """The card's entry of how images become the network's input."""
    init_args = data.get("init_args", {})
    size = init_args.get("image_size")
    scale: Config = {"class_path": "karyon.preprocessing.ScaleToUnit"}
    normalization = init_args.get("normalization") or scale
    if isinstance(normalization, str):
        normalization = {"class_path": normalization}
    return {
        "channels": init_args.get("channels", 3),
        "image_size": [size, size] if isinstance(size, int) else size,
        "normalization": normalization,
    }


def tuned_config(path: Path, checkpoints: Sequence[Path], postprocessing: str, say: Say, warn: Say) -> Config | None:
    """The config that sets the parameters that were tuned; None where none were, or another postprocessing's.

    Args:
        path: file of the parameters.
        checkpoints: for which they must have been tuned.
        postprocessing: class of it, which must be the one that was tuned.
        say: is told which parameters are taken.
        warn: is told which are left aside.

    Raises:
        DataError: the file of the parameters is damaged.
    """
    if not path.exists() or not all(checkpoint.exists() for checkpoint in checkpoints):
        return None
    try:
        content = json.loads(path.read_text())
        config: Config = upgrade(content["config"])
        tuned = config["model"]["init_args"]["postprocessing"]["class_path"]
        digest, parameters = content["checkpoint_sha256"], content.get("parameters") or content["knobs"]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{path} is not a readable file of tuned parameters: delete it, or run tune again.") from None
    if digest != digest_of(checkpoints):
        earlier = " or ".join(checkpoint.name for checkpoint in checkpoints)
        warn(f"{path} was tuned for an earlier {earlier} and is left aside: run tune again.")
        return None
    if tuned != postprocessing:
        warn(f"{path} was tuned for another postprocessing and is left aside.")
        return None
    shown = ", ".join(f"{name} {value:g}" for name, value in parameters.items())
    say(f"Tuned parameters of {path}: {shown} (options on the command line win).")
    return config


def digest_of(paths: Sequence[Path]) -> str:
    """The SHA-256 of what files hold, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()
