"""The knobs that ``python -m cli tune`` has found, stored beside the checkpoint they were found for."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from cli.processes import say
from cli.runs import Trained
from datamodules.sample import DataError
from lightning_modules.formats.folder import write_whole
from lightning_modules.tuning import Tuned

MEMBRANE_SCORES = "lightning_modules.metrics.membrane.MembraneScores"


def store_knobs(trained: Trained, tuned: Tuned, model: Namespace, scores: dict[str, float]) -> Path:
    """Writes what tuning has found, and a config that sets it.

    Args:
        trained: whose validation outputs were decoded.
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
        "checkpoint_sha256": _digest(trained.checkpoints),
        "config": {"model": {"init_args": init_args}},
    }
    path = trained.knobs
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(content, indent=1) + "\n").encode())
    return path


def stored_knobs(trained: Trained, model: Namespace) -> str | None:
    """The config that sets a checkpoint's tuned knobs, as JSON; None where it was not tuned.

    Args:
        trained: what was, or was not, tuned.
        model: the config of the model, whose decoder must be the one that was tuned.

    Raises:
        DataError: the file of the knobs is damaged.
    """
    decoder = model.init_args.get("decoder")
    # A model without one, such as a CropSegmenter, has nothing to tune.
    config = tuned_config(trained, decoder.class_path) if decoder else None
    return json.dumps(config) if config else None


def tuned_config(trained: Trained, decoder: str) -> dict[str, Any] | None:
    """The config that sets the knobs that were tuned; None where none were, or another decoder's.

    Raises:
        DataError: the file of the knobs is damaged.
    """
    path = trained.knobs
    if not path.exists() or not all(checkpoint.exists() for checkpoint in trained.checkpoints):
        return None
    try:
        content = json.loads(path.read_text())
        config: dict[str, Any] = content["config"]
        tuned = config["model"]["init_args"]["decoder"]["class_path"]
        digest, knobs = content["checkpoint_sha256"], content["knobs"]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{path} is no readable file of tuned knobs: delete it, or run tune again.") from None
    if digest != _digest(trained.checkpoints):
        earlier = " or ".join(checkpoint.name for checkpoint in trained.checkpoints)
        say(f"{path} was tuned for an earlier {earlier} and is left aside: run tune again.")
        return None
    if tuned != decoder:
        say(f"{path} was tuned for another decoder and is left aside.")
        return None
    shown = ", ".join(f"{name} {value:g}" for name, value in knobs.items())
    say(f"Tuned knobs of {path}: {shown} (options on the command line win).")
    return config


def with_config(args: list[str], config: str) -> list[str]:
    """Adds a config behind the last one of a command line, so that it wins over files but not over later options.

    >>> with_config(["test", "--config", "a.yaml", "--name", "x"], "{}")
    ['test', '--config', 'a.yaml', '--config', '{}', '--name', 'x']
    """
    behind = 1
    for position, arg in enumerate(args):
        if arg in ("--config", "-c"):
            behind = position + 2
        elif arg.startswith("--config="):
            behind = position + 1
    return [*args[:behind], "--config", config, *args[behind:]]


def _digest(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()
