"""Which run of Weights & Biases a command writes into, and that it needs no account."""

import os
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger, WandbLogger

RUN_ID = "wandb-run-id.txt"


def settle_tracking(config: Namespace, command: str, resumed: Path | None) -> None:
    """Lets W&B go on with the run of a training that goes on, and names a new one as we do.

    By its own variables, which win where they are set, as in a sweep of W&B, and which no saved config repeats. Tests
    and predictions are runs of their own, in the training's group: what is uploaded into a run that is there already
    replaces its config and its summary.

    Args:
        config: of a command.
        command: fit, test ...
        resumed: the folder of the training that goes on, None for a new one.
    """
    offline_without_account(config.runs_dir)
    os.environ.setdefault("WANDB_JOB_TYPE", command)
    if "WANDB_SWEEP_ID" not in os.environ:
        os.environ.setdefault("WANDB_NAME", config.name)
        os.environ.setdefault("WANDB_RUN_GROUP", config.name)
    if resumed and (resumed / RUN_ID).exists():
        os.environ.setdefault("WANDB_RUN_ID", (resumed / RUN_ID).read_text().strip())


def log_run(trainer: Trainer, config: dict[str, Any]) -> None:
    """Hands the resolved config to every logger but the first, and keeps the id of W&B's run in the training's folder.

    Args:
        trainer: of the first process.
        config: plain values.
    """
    own, *others = trainer.loggers
    for logger in others:
        logger.log_hyperparams(config)  # type: ignore[arg-type]
        # The trainer's own log_dir would wait for the other processes, which are not asked.
        if isinstance(logger, WandbLogger) and trainer.state.fn == "fit" and isinstance(own, CSVLogger):
            (Path(own.log_dir) / RUN_ID).write_text(f"{logger.experiment.id}\n")


def offline_without_account(runs_dir: Path) -> None:
    """Makes W&B keep its runs on disk where nobody is logged in: it would ask, or wait for minutes.

    Args:
        runs_dir: keeps the files of W&B's artifacts until they are uploaded; by default they would be in the home.
    """
    os.environ.setdefault("WANDB_DATA_DIR", str((runs_dir / "wandb").resolve()))
    if "WANDB_API_KEY" not in os.environ and not _netrc_names("api.wandb.ai"):
        os.environ.setdefault("WANDB_MODE", "offline")


def _netrc_names(host: str) -> bool:
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return path.is_file() and host in path.read_text()
