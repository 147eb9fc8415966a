"""Which run of Weights & Biases a command writes into, and that it needs no account."""

import os
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from jsonargparse import Namespace
from lightning import Trainer
from lightning.pytorch.loggers import WandbLogger

RUN_ID = "wandb-run-id.txt"


def settle_tracking(config: Namespace, folder: Path | None) -> None:
    """Lets the loggers of W&B go on with the run that a folder belongs to, and name a new one as we do.

    What the environment says wins, as it does in a sweep of W&B, which hands its runs out by WANDB_RUN_ID.

    Args:
        config: of a command; its loggers are not made yet.
        folder: of the training that is gone on with, tested or applied; None for a new one.
    """
    offline_without_account(config.runs_dir)
    for arguments in _wandb_arguments(config.trainer.logger):
        stored = folder / RUN_ID if folder else None
        if stored and stored.exists() and not arguments.get("id") and "WANDB_RUN_ID" not in os.environ:
            arguments["id"] = stored.read_text().strip()
        if not arguments.get("name") and not {"WANDB_NAME", "WANDB_SWEEP_ID"} & os.environ.keys():
            arguments["name"] = config.name


def log_run(trainer: Trainer, config: dict[str, Any]) -> None:
    """Hands the resolved config to every logger but the first, and keeps the id of W&B's run in the run's folder.

    That of a test, which may go on with the training's run, is kept apart from the training's.

    Args:
        trainer: of the first process.
        config: plain values.
    """
    assert trainer.state.fn is not None, "called when something begins"
    fitting = trainer.state.fn == "fit"
    for logger in trainer.loggers[1:]:
        logger.log_hyperparams(config if fitting else {trainer.state.fn.value: config})  # type: ignore[arg-type]
        if isinstance(logger, WandbLogger) and fitting and trainer.log_dir:
            (Path(trainer.log_dir) / RUN_ID).write_text(f"{logger.experiment.id}\n")


def offline_without_account(runs_dir: Path) -> None:
    """Makes W&B keep its runs on disk where nobody is logged in: it would ask, or wait for minutes.

    Args:
        runs_dir: keeps the files of W&B's artifacts until they are uploaded; by default they would be in the home.
    """
    os.environ.setdefault("WANDB_DATA_DIR", str((runs_dir / "wandb").resolve()))
    if "WANDB_API_KEY" not in os.environ and not _netrc_names("api.wandb.ai"):
        os.environ.setdefault("WANDB_MODE", "offline")


def _wandb_arguments(loggers: Any) -> list[Namespace]:
    """The arguments of those loggers of a config that are W&B's."""
    single = [loggers] if isinstance(loggers, Namespace) else loggers if isinstance(loggers, list) else []
    return [logger.init_args for logger in single if issubclass(resolve_name(logger.class_path), WandbLogger)]


def _netrc_names(host: str) -> bool:
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return path.is_file() and host in path.read_text()
