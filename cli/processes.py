"""What one process says for all, where a run has several."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jsonargparse import Namespace
from lightning import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table
from torch import distributed

from karyon.errors import DataError


@rank_zero_only
def say(line: str) -> None:
    """Prints a line once, though several processes say it."""
    print(line, flush=True)


def show(table: Table) -> None:
    """Prints a table, in a log file at its full width."""
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def is_first() -> bool:
    """Whether this is the process that speaks, and writes."""
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


def check_processes(trainer: Trainer, sync_batchnorm: bool) -> None:
    """Refuses what several processes cannot do.

    Raises:
        DataError: batch norm is to be synchronised between CPUs.
    """
    if sync_batchnorm and trainer.world_size > 1 and isinstance(trainer.accelerator, CPUAccelerator):
        raise DataError("Batch norm is synchronised between GPUs only: leave trainer.sync_batchnorm out on CPUs.")


def settle_precision(trainer: Namespace) -> None:
    """Takes single precision where the CPU has no instructions for bf16, which would take ten times as long.

    Args:
        trainer: its config; changed.
    """
    on_cpu = trainer.accelerator == "cpu" or (trainer.accelerator == "auto" and not torch.accelerator.is_available())
    if on_cpu and trainer.precision == "bf16-mixed" and torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2"):
        trainer.precision = "32-true"
        say("This CPU has no instructions for bf16: trainer.precision is 32-true.")


@contextmanager
def one_voice() -> Iterator[None]:
    """Leaves errors that all processes find to the first, and gives those that lose another one sentence.

    Raises:
        DataError: another process has ended.
    """
    try:
        yield
    except DataError:
        # Until they know of each other, all do the same.
        if not is_first() and not distributed.is_initialized():
            sys.exit(2)
        raise
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise DataError(
                "Another process of this run has ended, and tells why: once that is settled, --ckpt_path last goes on."
            ) from error
        raise
