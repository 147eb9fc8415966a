"""The knobs that ``python -m cli tune`` has found, stored beside the checkpoint they were found for."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from datamodules.sample import DataError
from lightning_modules.tuning import Tuned

MEMBRANE_SCORES = "lightning_modules.metrics.membrane.MembraneScores"


def knobs_path(checkpoint: Path) -> Path:
    """Where the knobs of a checkpoint are stored."""
    return checkpoint.with_suffix(".knobs.json")


def store_knobs(checkpoint: Path, tuned: Tuned, model: Namespace, scores: dict[str, float]) -> Path:
    """Writes what tuning has found, and a config that sets it.

    Args:
        checkpoint: whose validation outputs were decoded.
        tuned: what the search has found.
        model: the config of the model, whose decoder is replaced by the tuned one.
        scores: the validation's metrics; where membranes were scored, their best threshold is set as well.

    Returns:
        the file.
    """
    init_args: dict[str, Any] = {
        "decoder": {
            "class_path": model.init_args.decoder.class_path,
            "init_args": {**model.init_args.decoder.init_args.as_dict(), **tuned.knobs},
        }
    }
    metrics = [metric.as_dict() for metric in model.init_args.get("metrics") or []]
    for metric in metrics:
        if metric["class_path"] == MEMBRANE_SCORES:
            metric["init_args"]["threshold"] = round(scores["val/v_rand_threshold"], 1)
            init_args["metrics"] = metrics
    content = {
        **asdict(tuned),
        "checkpoint_sha256": _digest(checkpoint),
        "config": {"model": {"init_args": init_args}},
    }
    path = knobs_path(checkpoint)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)
    return path


def stored_knobs(checkpoint: Path, model: Namespace) -> str | None:
    """The config that sets a checkpoint's tuned knobs, as JSON; None where it was not tuned.

    Args:
        checkpoint: a file.
        model: the config of the model, which must have the decoder that was tuned.

    Raises:
        DataError: the file of the knobs is damaged.
    """
    config = tuned_config(checkpoint, model.init_args.decoder.class_path)
    return json.dumps(config) if config else None


def tuned_config(checkpoint: Path, decoder: str) -> dict[str, Any] | None:
    """The config that sets a checkpoint's tuned knobs; None where it was not tuned, or another decoder was.

    Raises:
        DataError: the file of the knobs is damaged.
    """
    path = knobs_path(checkpoint)
    if not path.exists() or not checkpoint.exists():
        return None
    try:
        content = json.loads(path.read_text())
        config: dict[str, Any] = content["config"]
        tuned = config["model"]["init_args"]["decoder"]["class_path"]
        digest, knobs = content["checkpoint_sha256"], content["knobs"]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{path} is no readable file of tuned knobs: delete it, or run tune again.") from None
    if digest != _digest(checkpoint):
        print(f"{path} was tuned for an earlier {checkpoint.name} and is left aside: run tune again.")
        return None
    if tuned != decoder:
        print(f"{path} was tuned for another decoder and is left aside.")
        return None
    shown = ", ".join(f"{name} {value:g}" for name, value in knobs.items())
    print(f"Tuned knobs of {path}: {shown} (options on the command line win).")
    return config


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
