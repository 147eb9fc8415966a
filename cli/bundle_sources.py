"""What a bundle is made of: the run of a checkpoint, or the two runs of a model of two stages."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import Namespace
from torch import Tensor

from cli.processes import say
from cli.runs import Trained, settle_trained, trained_at
from karyon.aliases import Config
from karyon.checkpoint import CONFIGS, check_parts, checkpoint_weights, model_parts, run_config
from karyon.errors import DataError
from lightning_modules.trained_runs import without_downloads
from lightning_modules.two_stage import settled_stages

FROM_RECORD = ("command", "commit", "date", "seed", "hardware", "wall_s", "epochs", "parameters")
TWO_STAGE = "lightning_modules.two_stage.TwoStage"
NETWORK = "karyon.detection.two_stage.TwoStageNetwork"
STAGES = {"detector_checkpoint": "Detector", "segmenter_checkpoint": "CropSegmenter"}


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        name: of the run.
        folder: of the run.
        model: the card's entry.
        state: its weights, under the names that the card's network gives them.
        data: the config of the data module that gave the images.
        runs: the configs of all that was trained.
        metrics, training: the card's entries.
    """

    name: str
    folder: Path
    model: Config
    state: dict[str, Tensor]
    data: Config
    runs: Sequence[Config]
    metrics: dict[str, dict[str, float]]
    training: Config


def find_source(path: Path) -> Source:
    """What a file names: a checkpoint, or a config of a model of two stages.

    Raises:
        DataError: it is missing or damaged, or of a model that cannot be a bundle.
    """
    return _two_stages(path) if path.suffix in CONFIGS else _checkpoint(path)


def _checkpoint(path: Path) -> Source:
    state, config, trained = checkpoint_weights(path), run_config(path), trained_at(path)
    metrics, training = _metrics(trained), _training(trained)
    model = check_parts(config["model"], path)
    return Source(
        config["name"], trained.folder, _card_model(model, trained), state, config["data"], [config], metrics, training
    )


def _two_stages(path: Path) -> Source:
    config = run_config(path)
    model, settings = config["model"], config["model"].get("init_args", {})
    if model["class_path"] not in (TWO_STAGE, "TwoStage") or not settings.keys() >= {*STAGES, "postprocessing"}:
        raise DataError(f"{path} names no detector_checkpoint, segmenter_checkpoint and postprocessing of a TwoStage.")
    named = Namespace(class_path=TWO_STAGE, init_args=Namespace(**settings))
    runs_dir, name = config["runs_dir"], config["name"]
    trained = settle_trained(Namespace(model=named, runs_dir=runs_dir, name=name, ckpt_path=None, version=None))
    runs = [run_config(checkpoint) for checkpoint in trained.checkpoints]
    for checkpoint, run, expected in zip(trained.checkpoints, runs, STAGES.values(), strict=True):
        if (found := run["model"]["class_path"].rpartition(".")[2]) != expected:
            raise DataError(f"{checkpoint} holds a {found}: name one of a {expected}.")
    detector, segmenter = (run["model"]["init_args"] for run in runs)
    size, margin, _ = settled_stages(trained.checkpoints, [run["data"] for run in runs])
    stages = {"detector": detector["network"], "segmenter": segmenter["network"]}
    network = {"class_path": NETWORK, "init_args": {**stages, "crop_size": size, "margin": margin}}
    parts = {"network": network, "postprocessing": settings["postprocessing"]}
    parts["channels_last"] = bool(detector.get("channels_last") and segmenter.get("channels_last"))
    state = {
        f"network.{stage}.{key.removeprefix('network.')}": value
        for stage, checkpoint in zip(stages, trained.checkpoints, strict=True)
        for key, value in checkpoint_weights(checkpoint).items()
    }
    # The second stage sees crops, at whose size no image is.
    image_size = config["data"].get("init_args", {}).get("image_size")
    data = {**runs[0]["data"], "init_args": {**runs[0]["data"]["init_args"], "image_size": image_size}}
    training = {stage: _training(trained_at(path)) for stage, path in zip(stages, trained.checkpoints, strict=True)}
    return Source(name, trained.folder, _card_model(parts, trained), state, data, runs, _metrics(trained), training)


def _card_model(model: Config, trained: Trained) -> Config:
    """The card's entry of a model: its parts, with the parameters tuned for its checkpoints."""
    without: Config = without_downloads(model_parts(model, trained.tuned, trained.checkpoints, say, say))
    return without


def _metrics(trained: Trained) -> dict[str, dict[str, float]]:
    """What the records of a run say of the validation and test of these checkpoints."""
    found = {}
    for stage, folder in (("val", "validate"), ("test", "test")):
        content = _record(trained.folder / folder)
        # A run's folder may have been moved since, or be named from elsewhere.
        if (record := content.get(stage)) and [
            _ends(entry["checkpoint"]) for entry in content.get("stages", {"": record}).values()
        ] == [_ends(checkpoint) for checkpoint in trained.checkpoints]:
            found[stage] = record["metrics"]
    return found


def _training(trained: Trained) -> Config:
    """What the record of a run says of its training."""
    record = _record(trained.folder).get("fit", {})
    return {key: record[key] for key in FROM_RECORD if key in record}


def _record(folder: Path) -> Config:
    try:
        content: Config = json.loads((folder / "record.json").read_text())
    except (OSError, ValueError):
        return {}
    return content


def _ends(checkpoint: str | Path) -> tuple[str, ...]:
    return Path(checkpoint).resolve().parts[-3:]
