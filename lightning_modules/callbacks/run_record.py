"""What it takes to believe a figure: command, commit, seed, hardware, time and memory of a run, beside its metrics."""

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from karyon.batch import Batch
from karyon.checkpoint import run_folder
from karyon.errors import DataError
from karyon.inference.engines import available_cores
from karyon.io.whole_files import write_whole
from lightning_modules.callbacks.resumed_settings import settings_in_force


class RunRecord(Callback):
    """Writes ``record.json``: after fit into the run's folder, after validate or test beside their outputs.

    The time of a run that was resumed is the sum of its parts; where the code was another then, its commits are listed.
    A record of validation or test includes that of the training and of `validate`, where they are found beside the
    checkpoint; of a model that is made of several (its ``checkpoints``) that of each training.

    Args:
        initial_weights: of the training, in words.
    """

    def __init__(self, initial_weights: str = "") -> None:
        self.initial_weights = initial_weights
        self.earlier_s = 0.0
        self.earlier_commits: list[str] = []

    def state_dict(self) -> dict[str, Any]:
        commits = [*self.earlier_commits, self.commit]
        return {"wall_s": self._elapsed(), "commits": commits, "initial_weights": self.initial_weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.earlier_s = state_dict["wall_s"]
        # What this command line says of it is no longer so.
        self.initial_weights = state_dict.get("initial_weights", self.initial_weights)
        # None of the checkpoints of earlier releases says.
        commits: list[str] = state_dict.get("commits", [])
        self.earlier_commits = [commit for commit in dict.fromkeys(commits) if commit != self.commit]
        if commits and commits[-1] != self.commit and self.stage == "fit":
            rank_zero_info(
                f"This run was trained by commit {commits[-1]} so far and goes on by commit {self.commit}; its record "
                "names both."
            )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.start, self.stage = time.monotonic(), stage
        self.batches_s, self.images = 0.0, 0
        # Now, because the checkout may move on while the run goes on with what it has loaded.
        self.commit = commit()
        # Asked for here, where every process does: the first one answers all others.
        self.folder = trainer.log_dir

    def _elapsed(self) -> float:
        return self.earlier_s + time.monotonic() - self.start

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        first = trainer.strategy.broadcast(trainer.ckpt_path)
        if trainer.ckpt_path != first:
            raise DataError(
                f"The processes of this run found different checkpoints ({first}, {trainer.ckpt_path}): name the run "
                "with --version."
            )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write_fit(trainer, pl_module, interrupted=trainer.interrupted)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if trainer.state.fn == "fit" and trainer.global_step > 0:
            # What stopped the run, such as a full disk, says more than that this cannot be written either.
            with suppress(OSError):
                self._write_fit(trainer, pl_module, interrupted=True)
            if trainer.is_global_zero:
                again = "the same command with --ckpt_path last goes on"
                with suppress(BrokenPipeError):
                    print(f"Interrupted in epoch {trainer.current_epoch + 1}; {again}.", flush=True)

    def _write_fit(self, trainer: Trainer, pl_module: LightningModule, interrupted: bool) -> None:
        rate = trainer.callback_metrics.get("train/images_per_second")
        record = {
            "fit": {
                **self._provenance(trainer),
                # Of the last epoch that was finished.
                **({} if rate is None else {"images_per_second": round(float(rate), 2)}),
                "model": type(pl_module).__name__,
                **({"initial_weights": self.initial_weights} if self.initial_weights else {}),
                "parameters": sum(parameter.numel() for parameter in pl_module.parameters()),
                "epochs": trainer.current_epoch,
                "max_epochs": trainer.max_epochs,
                "steps": trainer.global_step,
                "interrupted": interrupted,
                "precision": str(trainer.precision),
                **settings_in_force(trainer),
            }
        }
        self._write(trainer, record)

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.batch_start = time.monotonic()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.batches_s += time.monotonic() - self.batch_start
        self.images += len(batch)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write_evaluation(trainer, "test")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._write_evaluation(trainer, "val")

    def _write_evaluation(self, trainer: Trainer, stage: str) -> None:
        checkpoint = Path(trainer.ckpt_path) if trainer.ckpt_path else None
        record: dict[str, Any] = {}
        if checkpoint:
            folder = run_folder(checkpoint)
            for earlier in (folder / "validate" / "record.json", folder / "record.json"):
                record |= _written(earlier)
            # The validation of another checkpoint of the run says nothing of this one.
            if record.get("val", {}).get("checkpoint") != str(checkpoint):
                record.pop("val", None)
        stages: dict[str, Path] = getattr(trainer.lightning_module, "checkpoints", {})
        for name, path in stages.items():
            trained = _written(run_folder(path) / "record.json").get("fit")
            record.setdefault("stages", {})[name] = {"checkpoint": str(path), "fit": trained}
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith(f"{stage}/")}
        record[stage] = {**self._provenance(trainer), "checkpoint": str(checkpoint), "metrics": metrics}
        if self.images:
            # Of this process: network, decoding and scoring, without reading and without overlays.
            record[stage]["seconds_per_image"] = round(self.batches_s / self.images, 4)
        self._write(trainer, record)

    def _provenance(self, trainer: Trainer) -> dict[str, Any]:
        datamodule = getattr(trainer, "datamodule", None)
        # Of data sets that have more than one.
        annotation = getattr(datamodule, "annotation", None)
        return {
            **({"annotation": annotation} if annotation else {}),
            "data": getattr(datamodule, "provenance", {}),
            "command": "python -m cli " + shlex.join(sys.argv[1:]),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": self.commit,
            **({"earlier_commits": self.earlier_commits} if self.earlier_commits and self.stage == "fit" else {}),
            "seed": int(os.environ.get("PL_GLOBAL_SEED", -1)),
            "hardware": hardware(trainer),
            "wall_s": round(self._elapsed() if trainer.state.fn == "fit" else time.monotonic() - self.start, 1),
            **peak_memory(trainer.strategy.root_device),
        }

    def _write(self, trainer: Trainer, record: dict[str, Any]) -> None:
        if trainer.is_global_zero and self.folder:
            path = Path(self.folder) / "record.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, (json.dumps({**_written(path), **record}, indent=1) + "\n").encode())


def _written(path: Path) -> dict[str, Any]:
    """The record that lies there, empty where there is none; one that is damaged does not cost what was measured."""
    try:
        return dict(json.loads(path.read_bytes())) if path.exists() else {}
    except (ValueError, TypeError):
        rank_zero_info(f"{path} is not a readable record: what it said is left out.")
        return {}


def commit() -> str:
    """The commit of the code that runs, ``-dirty`` after it where files differ; ``unknown`` outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        result = subprocess.run(git, capture_output=True, text=True, check=False)
    except OSError:
        # The nodes of a cluster often have no git.
        return "unknown"
    return result.stdout.strip() or "unknown"


def hardware(trainer: Trainer) -> str:
    """What the run computes on, in words."""
    if trainer.strategy.root_device.type == "cuda":
        name = torch.cuda.get_device_name(trainer.strategy.root_device)
        return f"{trainer.world_size} x {name}"
    return processor()


def peak_memory(device: torch.device) -> dict[str, float]:
    """The most memory that this process has held at a time so far, GiB.

    Returns:
        ``peak_memory_gib``, of the main memory, without what workers of data loaders hold; not on Windows, which does
        not tell. On a CUDA device also ``peak_gpu_memory_gib``, what tensors held.
    """
    peak = {}
    if sys.platform != "win32":
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak["peak_memory_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 3)
    if device.type == "cuda":
        peak["peak_gpu_memory_gib"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 3)
    return peak


def processor() -> str:
    """The CPU in words, and how many of its cores this process may use."""
    return f"CPU, {available_cores()} cores ({_model_name()})"


def _model_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
