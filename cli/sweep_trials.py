"""The trials of a sweep: their study, their folders, the processes that run them. Needs Optuna, which is optional."""

import csv
import json
import math
import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from types import FrameType
from typing import IO, Any

import optuna
import yaml
from optuna import Study, Trial
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from cli.sweep_study import Sweep, plain
from karyon.commands.console import duration
from karyon.errors import DataError
from karyon.io.whole_files import write_whole

SECOND, JUDGED_EVERY_S = 1.0, 15.0
NOTHING = lambda number, frame: None  # noqa: E731
STATES = {"COMPLETE": "finished", "PRUNED": "stopped", "FAIL": "failed", "WAITING": "waiting"}


class Trials:
    """The trials of a sweep: a study of Optuna in ``study.log``, which processes on several machines with one disk may
    share, and for each trial a folder with its log and its run.

    Args:
        folder: of the sweep.
        sweep: what is tried.
        limit: of the number of trials.
    """

    def __init__(self, folder: Path, sweep: Sweep, limit: int) -> None:
        self.folder, self.sweep, self.limit = folder, sweep, limit
        self.ending, self.start, self.ran, self.tried = threading.Event(), time.monotonic(), list[str](), 0
        self.processes: set[subprocess.Popen[bytes]] = set()

    def begin(self, retry_failed: bool) -> None:
        """Makes the folder, with copies of the file and of the configs that trials read.

        Raises:
            DataError: the folder holds another sweep.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        kept, journal = self.folder / "sweep.yaml", self.folder / "study.log"
        # How many trials there are may change.
        content = self.sweep.model_dump(exclude={"run_cap"}, exclude_unset=True)
        with locked(self.folder / ".lock"):
            if kept.exists() and not (journal.exists() and yaml.safe_load(kept.read_bytes()) == content):
                raise DataError(f"{self.folder} holds the trials of another sweep file: choose a --name.")
            for path in self.sweep.configs if not kept.exists() else ():
                self._copy(path).parent.mkdir(parents=True, exist_ok=True)
                write_whole(self._copy(path), path.read_bytes())
            study = self.study()
            write_whole(kept, yaml.safe_dump(content, sort_keys=False).encode())
            for trial in self.all() if retry_failed else ():
                if self.state(trial) == "failed":
                    study.enqueue_trial(trial.params, user_attrs={**trial.user_attrs, "name": name_of(trial)})

    def study(self, drawn: int | None = None) -> Study:
        """The study of this folder; where it is to draw a trial, ``drawn`` tells how many there are."""
        journal = str(self.folder / "study.log")
        return optuna.create_study(
            storage=JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal))),
            study_name="sweep",
            direction=self.sweep.goal,
            sampler=None if drawn is None else self.sweep.sampler(drawn),
            pruner=self.sweep.pruner(),
            load_if_exists=True,
        )

    def all(self) -> list[FrozenTrial]:
        """The trials begun so far; of one that was tried again, the latest."""
        return list({name_of(trial): trial for trial in self.study().get_trials(deepcopy=False)}.values())

    def state(self, trial: FrozenTrial) -> str:
        """What has become of a trial; interrupted is one that nobody works on. Asked for under the folder's lock."""
        if trial.state.name in STATES:
            return STATES[trial.state.name]
        try:
            self._lock(trial).close()
        except BlockingIOError:
            return "running"
        return "interrupted"

    def ended(self) -> int:
        """The number of trials that have ended."""
        return sum(trial.state.is_finished() for trial in self.all())

    def history(self, name: str) -> list[float]:
        """The metric at each validation of a trial, those before an interruption included."""
        values: dict[tuple[str, str], float] = {}
        for path in sorted(self._run_of(name).glob("metrics*.csv"), key=lambda path: path.stat().st_mtime):
            with path.open(newline="") as file:
                for row in csv.DictReader(file):
                    # Epochs after the last checkpoint are gone through again: the later value counts.
                    if self.sweep.metric and row.get(self.sweep.metric.name):
                        values[row["epoch"], row["step"]] = float(row[self.sweep.metric.name])
        return list(values.values())

    def record(self, name: str) -> dict[str, Any]:
        """The record that a trial's run has left, empty where there is none."""
        path = self._run_of(name) / "record.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def command(self, trial: Trial | FrozenTrial) -> list[str]:
        """What runs a trial: the command of the sweep file, in the trial's folder, with the copies of configs."""
        words, name = [], name_of(trial)
        for word in self.sweep.words(self.sweep.given(trial.params)):
            option, is_set, path = word.rpartition("=")
            copied = path.endswith(".yaml") and self._copy(Path(path)).is_file()
            words.append(f"{option}{is_set}{self._copy(Path(path))}" if copied else word)
        # In the default root folder SLURM's requeue would look for a state to go on with.
        words += ["--runs_dir", str(self.folder), "--name", name, "--trainer.default_root_dir", str(self.folder / name)]
        return [*words, "--ckpt_path", "last"]

    def _copy(self, path: Path) -> Path:
        return self.folder / "configs" / path.relative_to(path.anchor)

    def _run_of(self, name: str) -> Path:
        versions = (self.folder / name).glob("version_*[0-9]")
        return max(versions, key=lambda path: int(path.name.rpartition("_")[2]), default=self.folder / name)

    def _lock(self, trial: Trial | FrozenTrial) -> IO[bytes]:
        (self.folder / name_of(trial)).mkdir(exist_ok=True)
        return locked(self.folder / name_of(trial) / ".lock", wait=False)

    def run(self, jobs: int, once: bool) -> None:
        """Runs trials until none is left, or until Ctrl-C or SIGTERM, of which a second one ends them at once.

        Args:
            jobs: how many at a time.
            once: one alone, as a task of an array does.
        """
        print(f"{self.folder}: {self.ended()} of {self.limit} trials done, {jobs} at a time.", flush=True)
        # What runs in the background of a shell ignores Ctrl-C; its processes would inherit that, and not hear ours.
        hears = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
        handlers: dict[int, Any] = {
            signal.SIGTERM: self._interrupt,
            signal.SIGINT: self._interrupt if hears else NOTHING,
        }
        # Lightning, in the process of the trial, answers this one; SLURM sends it to every process.
        handlers |= {signal.SIGUSR1: NOTHING} if once else {}
        earlier = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        with ThreadPoolExecutor(jobs) as pool:
            workers = [pool.submit(self._work, once) for _ in range(jobs)]
        for number, handler in earlier.items():
            signal.signal(number, handler)
        for worker in workers:
            worker.result()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        for process in [*self.processes] if self.ending.is_set() else ():
            process.kill()
        self.ending.set()

    def _work(self, once: bool) -> None:
        while not self.ending.is_set() and (claimed := self._claim()):
            self._try(*claimed)
            if once:
                return

    def _claim(self) -> tuple[Trial, IO[bytes]] | None:
        """The next trial that nobody works on, with its lock: one that was interrupted, or a new one."""
        with locked(self.folder / ".lock"):
            begun = self.all()
            study = self.study(len(begun))
            # The least often started first, so that each task of an array tries another one.
            for known in sorted(begun, key=lambda trial: trial.user_attrs.get("starts", 0)):
                if known.state == TrialState.RUNNING and name_of(known) not in self.ran:
                    with suppress(BlockingIOError):
                        lock = self._lock(known)
                        # Whoever worked on it may have ended it just now.
                        if study.get_trials(deepcopy=False)[known.number].state == TrialState.RUNNING:
                            return self._begun(Trial(study, known._trial_id), lock)
                        lock.close()
            if len(begun) >= self.limit and all(trial.state != TrialState.WAITING for trial in begun):
                return None
            trial = study.ask()
            return self._begun(trial, self._lock(trial))

    def _begun(self, trial: Trial, lock: IO[bytes]) -> tuple[Trial, IO[bytes]]:
        for name, distribution in self.sweep.space.items():
            # What a process that was killed has drawn before stays.
            trial._suggest(name, distribution)
        trial.set_user_attr("starts", trial.user_attrs.get("starts", 0) + 1)
        self.ran.append(name_of(trial))
        return trial, lock

    def _try(self, trial: Trial, lock: IO[bytes]) -> None:
        """Runs a trial to its end, or until it lags behind, or until all is to end, and tells Optuna.

        Its process holds the lock as well: while that lives, nobody else goes on with the trial.
        """
        name, start, log = name_of(trial), time.monotonic(), self.folder / name_of(trial) / "log.txt"
        given = (f"{short} {plain(trial.params.get(full))}" for full, short in self.sweep.varied.items())
        print(f"{name}: {', '.join(given)}; log in {log}", flush=True)
        with lock:
            code, stopped = self._process(trial, lock, log)
            self._lags(trial)
            trial.set_user_attr("wall_s", round(trial.user_attrs.get("wall_s", 0.0) + time.monotonic() - start, 1))
            # Not the study that has drawn it, whose sampler would stop a loop of Optuna's at the end of a grid.
            study, best, said = self.study(), self.sweep.best(self.history(name)), "interrupted"
            if stopped:
                study.tell(trial.number, state=TrialState.PRUNED)
                said = "stopped"
            elif code == 0 and self._trained(name):
                worst = -math.inf if self.sweep.goal == "maximize" else math.inf
                study.tell(trial.number, worst if best is None else best)
                said = "finished"
            # Lightning ends with code 0 where SLURM has asked it to.
            elif code and not self.ending.is_set():
                lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
                trial.set_user_attr("reason", reason := f"exit code {code}: {lines[-1][-300:] if lines else ''}")
                study.tell(trial.number, state=TrialState.FAIL)
                said = f"failed ({reason})"
        said += f", {self.sweep.metric.name} {best:.4f}" if self.sweep.metric and best is not None else ""
        self.tried += 1
        done, spent = self.ended(), time.monotonic() - self.start
        left = f", about {duration(spent / self.tried * (self.limit - done))} left" if done < self.limit else ""
        print(f"{name}: {said}; {done} of {self.limit} done, {duration(spent)} spent{left}", flush=True)

    def _process(self, trial: Trial, lock: IO[bytes], log: Path) -> tuple[int, bool]:
        """Runs a trial's command; returns its exit code, and whether the trial was stopped early."""
        command, waited, asked, stopped = self.command(trial), 0.0, False, False
        try:
            with log.open("ab") as out:
                # A session of its own: Ctrl-C is for us, who pass it on.
                streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out}
                env = {"WANDB_RUN_GROUP": self.folder.name, **os.environ}
                process = subprocess.Popen(
                    command, **streams, env=env, pass_fds=[lock.fileno()], start_new_session=True
                )
        except OSError as error:
            raise DataError(f"{command[0]} cannot be run ({error.strerror}): correct the command.") from None
        self.processes.add(process)
        while process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(SECOND)
            waited += SECOND
            if self.ending.is_set() and not asked:
                print("Ending what runs; its state is kept (again: at once).", flush=True)
                asked = True
                process.send_signal(signal.SIGINT)
            elif waited >= JUDGED_EVERY_S and not stopped and not asked:
                waited = 0.0
                # What is trained to the end may be tested.
                if stopped := self._lags(trial) and not self._trained(name_of(trial)):
                    # As W&B's agent does.
                    process.terminate()
        self.processes.remove(process)
        return process.returncode, stopped

    def _trained(self, name: str) -> bool:
        return self.record(name).get("fit", {}).get("interrupted") is False

    def _lags(self, trial: Trial) -> bool:
        """Reports the best so far at each new validation of a trial; whether Optuna would stop it."""
        history, lags = self.history(name_of(trial)), False
        reported = len(self.study().get_trials(deepcopy=False)[trial.number].intermediate_values)
        for step in range(reported + 1, len(history) + 1):
            best = self.sweep.best(history[:step])
            trial.report(math.nan if best is None else best, step)
            lags = trial.should_prune() or lags
        return lags


def name_of(trial: Trial | FrozenTrial) -> str:
    """The folder of a trial; one that is tried again keeps it."""
    return str(trial.user_attrs.get("name", f"trial-{trial.number + 1:04}"))


def locked(path: Path, wait: bool = True) -> IO[bytes]:
    """A file that is locked until it is closed here and, unlike a `FileLock`, in the processes it was handed on to.

    Raises:
        BlockingIOError: others hold it, and it is not to be waited for.
        DataError: the disk has no locks.
    """
    file = path.open("ab")
    try:
        flock(file, LOCK_EX if wait else LOCK_EX | LOCK_NB)
    except OSError as error:
        file.close()
        if isinstance(error, BlockingIOError):
            raise
        raise DataError(f"{path} cannot be locked ({error.strerror}): put --runs_dir on another disk.") from None
    return file
