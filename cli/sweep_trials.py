"""The trials of a sweep: a folder each, with what was tried, how it ended, its log and its run."""

import csv
import fcntl
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cli.runs import in_versions
from cli.sweep_file import Sweep, Tried
from datamodules.sample import DataError
from lightning_modules.formats.folder import write_whole

SECOND, JUDGED_EVERY_S = 1.0, 15.0


@dataclass(frozen=True)
class Trial:
    """What is kept of a trial, as ``trial.json`` in its folder.

    Attributes:
        number: from 1.
        parameters: the values it was given.
        state: ``running`` (or interrupted, where nobody holds its lock), ``finished``, ``failed`` or ``stopped`` early.
        command: what runs it.
        wall_s: time it has taken, s.
        reason: the last line that a failed trial has said.
        starts: how often it was begun or gone on with.
    """

    number: int
    parameters: dict[str, Any]
    state: str
    command: list[str]
    wall_s: float = 0.0
    reason: str = ""
    starts: int = 0

    @property
    def name(self) -> str:
        return f"trial-{self.number:04}"


class Trials:
    """The trials of a sweep that several processes, and several machines with one file system, may work on.

    Args:
        folder: of the sweep.
        sweep: what is tried.
    """

    def __init__(self, folder: Path, sweep: Sweep) -> None:
        self.folder, self.sweep = folder, sweep
        self.processes: set[subprocess.Popen[bytes]] = set()

    def all(self) -> list[Trial]:
        """Those begun so far, by number."""
        files = sorted(self.folder.glob("trial-*/trial.json"))
        return sorted((Trial(**json.loads(path.read_text())) for path in files), key=lambda trial: trial.number)

    def history(self, trial: Trial) -> list[float]:
        """The sweep's metric at each validation of a trial, those before an interruption included."""
        values: dict[tuple[str, str], float] = {}
        metrics = next(iter(in_versions(self.folder, trial.name, ".")), self.folder).glob("metrics*.csv")
        for path in sorted(metrics, key=lambda path: path.stat().st_mtime):
            with path.open(newline="") as file:
                for row in csv.DictReader(file):
                    # Epochs after the last checkpoint are gone through again: the later value counts.
                    if self.sweep.metric and row.get(self.sweep.metric):
                        values[row["epoch"], row["step"]] = float(row[self.sweep.metric])
        return list(values.values())

    def tried(self) -> list[Tried]:
        """All of them, as the engine of sweeps sees them."""
        return [
            Tried(
                trial.number,
                trial.parameters,
                "killed" if trial.state == "stopped" else trial.state,
                self.history(trial),
            )
            for trial in self.all()
        ]

    def claim(self, limit: int, again: bool, leave: set[int]) -> tuple[Trial, int] | None:
        """The next trial that nobody works on: one that was interrupted, or a new one.

        Args:
            limit: of the number of trials, finished ones included.
            again: whether failed trials are tried again.
            leave: numbers of trials that are not tried again.

        Returns:
            the trial and the descriptor of its lock; None where nothing is left.
        """
        with held(self.folder / ".lock"):
            begun = self.all()
            states = ("running", "failed") if again else ("running",)
            open_ = [trial for trial in begun if trial.state in states and trial.number not in leave]
            # So that each task of an array tries another one.
            for trial in sorted(open_, key=lambda trial: (trial.state == "failed", trial.starts)):
                lock = lock_of(self.folder / trial.name / ".lock", wait=False)
                if lock is not None:
                    return self.keep(replace(trial, state="running", reason="", starts=trial.starts + 1)), lock
            if len(begun) >= limit:
                return None
            parameters = self.sweep.propose(self.tried())
            if parameters is None:
                return None
            trial = Trial(len(begun) + 1, parameters, "running", [], starts=1)
            trial = replace(trial, command=self._command(trial))
            (self.folder / trial.name).mkdir()
            lock = lock_of(self.folder / trial.name / ".lock", wait=False)
            assert lock is not None, "its folder is new"
            return self.keep(trial), lock

    def keep(self, trial: Trial) -> Trial:
        """Writes what is known of a trial."""
        text = json.dumps(asdict(trial), indent=1) + "\n"
        write_whole(self.folder / trial.name / "trial.json", text.encode())
        return trial

    def keep_configs(self) -> None:
        """Copies the YAML files that trials read, so that those to come read what the first has read."""
        for path in self.sweep.configs:
            copy = self._copy(path)
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                write_whole(copy, path.read_bytes())

    def _copy(self, path: Path) -> Path:
        return self.folder / "configs" / path.relative_to(path.anchor)

    def _command(self, trial: Trial) -> list[str]:
        words = []
        for word in self.sweep.command(trial.parameters):
            option, is_set, path = word.rpartition("=")
            copy = self._copy(Path(path))
            words.append(f"{option}{is_set}{copy}" if path.endswith(".yaml") and copy.is_file() else word)
        where = ["--runs_dir", str(self.folder), "--name", trial.name]
        # There SLURM's requeue would look for a state to go on with.
        where += ["--trainer.default_root_dir", str(self.folder / trial.name)]
        return [*words, *where, "--ckpt_path", "last"]

    def run(self, trial: Trial, lock: int, ending: threading.Event) -> Trial:
        """Runs a trial to its end, or until it lags behind, or until all is to end.

        Args:
            trial: as it was claimed.
            lock: descriptor of its lock, which the process holds as well: while it lives, nobody else goes on with it.
            ending: set when all is to end; the trial is then left to be gone on with.

        Returns:
            the trial as it is kept.
        """
        try:
            start = time.monotonic()
            code, stopped = self._process(trial, lock, ending)
            wall_s = round(trial.wall_s + time.monotonic() - start, 1)
            return self.keep(self._ended(replace(trial, wall_s=wall_s), code, stopped, ending.is_set()))
        finally:
            os.close(lock)

    def _process(self, trial: Trial, lock: int, ending: threading.Event) -> tuple[int, bool]:
        """Runs a trial's command; returns its exit code, and whether the trial was stopped early."""
        stopped = False
        with (self.folder / trial.name / "log.txt").open("ab") as log:
            try:
                process = subprocess.Popen(
                    trial.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={"WANDB_RUN_GROUP": self.folder.name, **os.environ},
                    pass_fds=[lock],
                    # Ctrl-C is for us, who pass it on.
                    start_new_session=True,
                )
            except OSError as error:
                raise DataError(f"{trial.command[0]} cannot be run ({error.strerror}): correct the command.") from None
            self.processes.add(process)
            for _ in self._until_ended(process, ending):
                # What is trained to the end may be tested.
                if not stopped and not self._trained(trial) and trial.number in self.sweep.to_stop(self.tried()):
                    # As W&B's agent does.
                    stopped = True
                    process.terminate()
            self.processes.remove(process)
        return process.returncode, stopped

    def kill(self) -> None:
        """Ends the processes of this machine at once."""
        for process in self.processes:
            process.kill()

    def _until_ended(self, process: "subprocess.Popen[bytes]", ending: threading.Event) -> Iterator[None]:
        """Waits for a process; comes back whenever it is to be judged against the other trials."""
        waited, asked = 0.0, False
        while True:
            try:
                process.wait(SECOND)
                return
            except subprocess.TimeoutExpired:
                waited += SECOND
            if ending.is_set() and not asked:
                asked = True
                process.send_signal(signal.SIGINT)
            elif waited >= JUDGED_EVERY_S:
                waited = 0.0
                yield

    def _ended(self, trial: Trial, code: int, stopped: bool, ending: bool) -> Trial:
        if stopped:
            return replace(trial, state="stopped")
        if code == 0 and self._trained(trial):
            return replace(trial, state="finished")
        # Lightning ends with code 0 where SLURM has asked it to.
        if ending or code == 0:
            return trial
        lines = (self.folder / trial.name / "log.txt").read_text(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return replace(trial, state="failed", reason=f"exit code {code}: {said[-300:]}")

    def record(self, trial: Trial) -> dict[str, Any] | None:
        """The record that a trial's training has left, None where there is none."""
        path = next(iter(in_versions(self.folder, trial.name, "record.json")), None)
        record: dict[str, Any] | None = json.loads(path.read_text()) if path else None
        return record if record and "fit" in record else None

    def _trained(self, trial: Trial) -> bool:
        record = self.record(trial)
        return record is not None and not record["fit"]["interrupted"]

    def interrupted(self, trial: Trial) -> bool:
        """Whether a trial that has not ended is worked on by nobody."""
        if trial.state != "running":
            return False
        lock = lock_of(self.folder / trial.name / ".lock", wait=False)
        if lock is not None:
            os.close(lock)
        return lock is not None


def lock_of(path: Path, wait: bool) -> int | None:
    """Takes a lock that the file system gives up by itself when its last holder has ended.

    Unlike that of a `FileLock`, its descriptor can be handed on to the process that does the work.

    Args:
        path: of the file that stands for it.
        wait: whether to wait for others who hold it.

    Returns:
        the descriptor, None where others hold it.

    Raises:
        DataError: the file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        raise DataError(f"{path} cannot be locked ({error.strerror}): put --runs_dir on another file system.") from None
    return descriptor


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Waits for a lock, and holds it."""
    descriptor = lock_of(path, wait=True)
    assert descriptor is not None, "it was waited for"
    try:
        yield
    finally:
        os.close(descriptor)
