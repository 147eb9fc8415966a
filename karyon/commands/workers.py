"""Who looks at the blocks of large images: this process, or workers of Dask."""

import argparse
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from karyon.errors import DataError

if TYPE_CHECKING:
    from karyon.model import Model

LOGS = "workers"  # the folder of what jobs say, in that of the results


@dataclass(frozen=True)
class Count:
    """How many workers, and where.

    Attributes:
        number: of workers; 0 is this process alone.
        slurm: whether each is a job of SLURM; else they are processes of this machine.
    """

    number: int
    slurm: bool = False

    @classmethod
    def parse(cls, text: str) -> "Count":
        """Reads ``4``, or ``slurm:16``.

        >>> Count.parse("slurm:16")
        Count(number=16, slurm=True)
        """
        if found := re.fullmatch(r"(slurm:)?([1-9]\d{0,5})", text, re.ASCII):
            return cls(int(found[2]), bool(found[1]))
        raise argparse.ArgumentTypeError(f"{text} is not a number of workers: expected 4, or slurm:16")

    def __str__(self) -> str:
        workers = f"{self.number} worker{'s' * (self.number > 1)} of Dask"
        return f"{workers}, each a job of SLURM" if self.slurm else f"{workers} on this machine"

    def check(self, options: str) -> None:
        """Raises a `DataError` where what they need is missing, or nobody takes the options of their jobs."""
        if options and not self.slurm:
            raise DataError("--worker-options are of jobs of SLURM: add --workers slurm:16, or leave them out.")
        if self.number and not all(map(find_spec, ("dask", "distributed", "dask_jobqueue"))):
            raise DataError('--workers needs Dask: pip install "karyon[dask]".')
        if self.slurm and not shutil.which("sbatch"):
            raise DataError("--workers slurm needs sbatch, which is not here: begin where jobs are handed in.")


ALONE = Count(0)


@contextmanager
def at_work(model: "Model", options: argparse.Namespace) -> Iterator[None]:
    """Lets workers look at blocks, where that is asked for.

    Raises:
        DataError: there are no blocks, or SLURM refuses the workers.
    """
    if options.workers == ALONE:
        yield
        return
    if model.predictor.blocks is None:
        raise DataError(f"The model {model.card.name} sees every image at one size, as a whole: leave --workers out.")
    from karyon.inference.dask_workers import dask_workers

    print(f"Blocks of large images by {options.workers}.", flush=True)
    number, slurm = options.workers.number, options.workers.slurm
    with dask_workers(number, slurm, options.worker_options, options.out / LOGS) as workers:
        model.predictor.blocks.workers = workers
        yield
