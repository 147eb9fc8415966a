"""The parameters that ``python -m cli tune`` has found, stored beside the checkpoint they were found for."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from cli.processes import say
from cli.runs import Trained
from karyon.checkpoint import digest_of, tuned_config
from karyon.io.whole_files import write_whole
from lightning_modules.tuning import Tuned

MEMBRANE_SCORES = "karyon.metrics.membrane.MembraneScores"


def store_parameters(trained: Trained, tuned: Tuned, model: Namespace, scores: dict[str, float]) -> Path:
    """Writes what tuning has found, and a config that sets it.

    Args:
        trained: whose validation outputs were decoded.
        tuned: what the search has found.
        model: the config of the model, whose postprocessing is replaced by the tuned one.
        scores: the validation's metrics; where membranes were scored, their best threshold is set as well.

    Returns:
        the file.
    """
    init_args: dict[str, Any] = {
        "postprocessing": {
            "class_path": model.init_args.postprocessing.class_path,
            "init_args": {**model.init_args.postprocessing.init_args.as_dict(), **tuned.parameters},
        }
    }
    metrics = [metric.as_dict() for metric in model.init_args.get("metrics") or []]
    for metric in metrics:
        if metric["class_path"] == MEMBRANE_SCORES:
            metric["init_args"]["threshold"] = round(scores["val/v_rand_threshold"], 1)
            init_args["metrics"] = metrics
    content = {
        **asdict(tuned),
        "checkpoint_sha256": digest_of(trained.checkpoints),
        "config": {"model": {"init_args": init_args}},
    }
    path = trained.tuned
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(content, indent=1) + "\n").encode())
    return path


def stored_parameters(trained: Trained, model: Namespace) -> str | None:
    """The config that sets a checkpoint's tuned parameters, as JSON; None where it was not tuned.

    Args:
        trained: what was, or was not, tuned.
        model: the config of the model, whose postprocessing must be the one that was tuned.

    Raises:
        DataError: the file of the parameters is damaged.
    """
    postprocessing = model.init_args.get("postprocessing")
    # A model without one, such as a CropSegmenter, has nothing to tune.
    if not postprocessing:
        return None
    config = tuned_config(trained.tuned, trained.checkpoints, postprocessing.class_path, say, say)
    return json.dumps(config) if config else None


def with_config(args: list[str], config: str) -> list[str]:
    """Adds a config after the last one of a command line, so that it wins over files but not over later options.

    >>> with_config(["test", "--config", "a.yaml", "--name", "x"], "{}")
    ['test', '--config', 'a.yaml', '--config', '{}', '--name', 'x']
    """
    place = 1
    for position, arg in enumerate(args):
        if arg in ("--config", "-c"):
            place = position + 2
        elif arg.startswith("--config="):
            place = position + 1
    return [*args[:place], "--config", config, *args[place:]]
