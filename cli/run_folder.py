"""The folder of a training: chosen once, by the first of its processes, and for no second training meanwhile."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from jsonargparse import Namespace

from cli.runs import find_checkpoint, named_version, numbered_versions, unused
from karyon.checkpoint import run_folder
from karyon.errors import DataError, cannot_write

LOCK = ".lock"
PATIENCE = 15.0  # s; a process that was killed may live on for a moment in its data loader's workers


@dataclass(frozen=True)
class Start:
    """Where a training begins or goes on, found without writing anything, so that every process finds the same.

    Attributes:
        versions: folder of all versions of the run.
        folder: of the run that goes on; None for a new one.
        name: by which the run is to be found again; None for its number alone.
    """

    versions: Path
    folder: Path | None
    name: str | None


def settle_start(config: Namespace) -> tuple[Start, str]:
    """Settles where a training begins, and puts its checkpoint into the config.

    Args:
        config: of fit.

    Returns:
        the start, and what there is to say of it.

    Raises:
        DataError: there is no such version, or no such checkpoint.
    """
    if config.ckpt_path == "best":
        raise DataError("fit goes on from a run's last state: give --ckpt_path last, or a file.")
    versions, name = config.runs_dir / config.name, config.version
    folder = named_version(versions, name) if name else None
    if folder is None and name and name.startswith("version_"):
        raise DataError(
            f"There is no {name} in {versions}: leave --version out, or choose a name that is not a number."
        )
    if (
        folder is None
        and config.ckpt_path == "last"
        and (newest := find_checkpoint(config.runs_dir, config.name, "last"))
    ):
        folder = run_folder(newest)
    # A config that was saved with the name would, run again, go on with this run.
    config.version = None
    start = Start(versions, folder, name)
    last = folder / "checkpoints" / "last.ckpt" if folder else None
    if last and last.exists():
        config.ckpt_path = str(last)
        return start, f"Resuming {last}."
    said = ""
    if config.ckpt_path == "last":
        config.ckpt_path = None
        said = f"Nothing to resume in {versions}: starting from the beginning."
    if folder:
        beginning = config.ckpt_path or "the beginning"
        said = f"{folder} was stopped before its first checkpoint: starting from {beginning} in the same folder."
    return start, said


class RunFolder:
    """The folder that a training writes into; taken by its first process, which alone changes anything there.

    Args:
        start: where.

    Raises:
        DataError: another training is at work in there, or it cannot be written.
    """

    def __init__(self, start: Start) -> None:
        self.link = start.versions / start.name if start.name else None
        self.new = start.folder is None
        try:
            self.path = start.folder or make_next_version(start.versions)
            self._lock()
            if self.link and not self.link.exists():
                # A link to a folder that is gone.
                self.link.unlink(missing_ok=True)
                self.link.symlink_to(self.path.name, target_is_directory=True)
            metrics = self.path / "metrics.csv"
            # CSVLogger deletes what it finds under its own name.
            if metrics.exists():
                metrics.rename(unused(self.path / "metrics-before-resume.csv"))
        except OSError as error:
            raise cannot_write(error.filename, error, "or choose another folder with --runs_dir") from None
        self.config_name = unused(self.path / "config.yaml").name

    def _lock(self) -> None:
        self.lock = FileLock(self.path / LOCK, fallback_to_soft=False)
        holder = self.path / f"{LOCK}.holder"
        try:
            self.lock.acquire(timeout=PATIENCE)
        except Timeout:
            by = holder.read_text() if holder.exists() else "another process"
            raise DataError(
                f"{self.path} is locked by {by}: wait for its end, or begin a run of its own without --ckpt_path last."
            ) from None
        except OSError:
            print(f"No locks on the disk of {self.path}: see to it that no second training goes on in there.")
        job = f", job {os.environ['SLURM_JOB_ID']}" if "SLURM_JOB_ID" in os.environ else ""
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}{job}")

    def release(self) -> None:
        """Lets another training in; leaves nothing of a run that failed before it wrote anything."""
        ours = {self.path / LOCK, self.path / f"{LOCK}.holder"}
        if self.new and self.path.is_dir() and set(self.path.iterdir()) <= ours:
            for path in (*ours, *([self.link] if self.link else [])):
                path.unlink(missing_ok=True)
            self.path.rmdir()
        self.lock.release()


def make_next_version(versions: Path) -> Path:
    """Makes the folder of the next version, of which no two processes get the same."""
    versions.mkdir(parents=True, exist_ok=True)
    number = 1 + max(numbered_versions(versions), default=-1)
    while True:
        try:
            (folder := versions / f"version_{number}").mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder
