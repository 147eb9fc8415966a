"""``python -m cli sweep``: runs the trials of a sweep file of W&B, on this machine or by SLURM, with no account."""

import argparse
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import yaml

from cli.results_page import duration
from cli.sweep_file import read_sweep
from cli.sweep_page import described, write
from cli.sweep_trials import Trial, Trials, held
from datamodules.sample import DataError
from lightning_modules.formats.folder import write_whole

SCRIPT = Path("slurm/sweep-trial.sbatch")
# Where an option says what a trial computes on, none is added.
RESOURCES = re.compile(r" (-G|-c|-n|--gpu|--gres|--cpus|--ntasks)")
INTERRUPTED = 130


def sweep(args: list[str]) -> int:
    """Runs the trials that are not done yet, then writes ``sweep.md``, ``sweep.csv`` and ``sweep.png``.

    Args:
        args: of the command line, after ``sweep``.

    Returns:
        the exit code: 0 all trials have ended well, 1 some have failed, 130 interrupted.

    Raises:
        DataError: the file is no sweep, has no end, or the folder holds another sweep.
    """
    options = _parser().parse_args(args)
    content = read_sweep(options.file)
    limit = options.count or content.size()
    if limit is None:
        raise DataError(f"{options.file} has no end: say how many trials there are to be with --count.")
    folder = options.runs_dir / (options.name or content.content.get("name") or options.file.stem)
    trials = Trials(folder, content)
    begin(trials)
    if options.slurm is not None:
        over = ("finished", "stopped") if options.retry_failed else ("finished", "stopped", "failed")
        submit(options, folder, limit - sum(trial.state in over for trial in trials.all()))
        return 0
    work = Work(trials, limit, options.retry_failed, 1 if options.one else options.jobs or 1)
    ended = work.one() if options.one else work.all()
    with held(folder / ".lock"):
        print(write(trials, limit))
    print(f"Wrote {folder / 'sweep.md'}, {folder / 'sweep.csv'} and {folder / 'sweep.png'}.")
    if work.ending.is_set():
        print("Interrupted; the same command goes on.")
        return INTERRUPTED
    return int(any(trial.state == "failed" for trial in (ended if options.one else trials.all())))


def begin(trials: Trials) -> None:
    """Makes the sweep's folder, with a copy of the file and of the configs that it names.

    Raises:
        DataError: the folder holds another sweep.
    """
    folder, kept = trials.folder, trials.folder / "sweep.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    # How many trials there are may change.
    content = {key: value for key, value in trials.sweep.content.items() if key != "run_cap"}
    with held(folder / ".lock"):
        if not kept.exists():
            trials.keep_configs()
            write_whole(kept, yaml.safe_dump(content, sort_keys=False).encode())
        elif yaml.safe_load(kept.read_text()) != content:
            raise DataError(f"{folder} holds the trials of another sweep file, or of an earlier form: choose a --name.")


@dataclass
class Work:
    """Works on trials until none is left.

    Attributes:
        trials: of the sweep.
        limit: of their number.
        again: whether failed trials are tried again.
        jobs: how many run at a time.
    """

    trials: Trials
    limit: int
    again: bool
    jobs: int

    def __post_init__(self) -> None:
        self.ending = threading.Event()
        self.start = time.monotonic()
        self.ended: list[Trial] = []
        self.retried: set[int] = set()

    def all(self) -> list[Trial]:
        """Runs trials on this machine, as many at a time as there are jobs; returns those that it ran."""
        print(f"{self.trials.folder}: {self._done()} of {self.limit} trials done, {self.jobs} at a time.", flush=True)
        with ThreadPoolExecutor(self.jobs) as pool:
            self._wait([pool.submit(self._worker) for _ in range(self.jobs)])
        return self.ended

    def one(self) -> list[Trial]:
        """Runs the next trial alone, as a task of a SLURM array does; returns it, if there is one."""
        # Lightning, in the process of the trial, answers this one; SLURM sends it to every process.
        signal.signal(signal.SIGUSR1, lambda number, frame: None)
        with ThreadPoolExecutor(1) as pool:
            self._wait([pool.submit(self._next)])
        return self.ended

    def _wait(self, futures: Sequence[Future[object]]) -> None:
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            try:
                wait(futures)
            except KeyboardInterrupt:
                print("Ending what runs; its state is kept (again: at once).", flush=True)
                self.ending.set()
                wait(futures)
        except KeyboardInterrupt:
            self.trials.kill()
            wait(futures)
        finally:
            signal.signal(signal.SIGTERM, before)
        for future in futures:
            future.result()

    def _worker(self) -> None:
        while self._next():
            pass

    def _next(self) -> bool:
        """Runs the next trial; whether there was one."""
        if self.ending.is_set():
            return False
        claimed = self.trials.claim(self.limit, self.again, self.retried)
        if claimed is None:
            return False
        trial, lock = claimed
        self.retried.add(trial.number)
        log = self.trials.folder / trial.name / "log.txt"
        print(f"{trial.name}: {described(trial.parameters, self.trials.sweep.varied)}; log in {log}", flush=True)
        trial = self.trials.run(trial, lock, self.ending)
        self.ended.append(trial)
        print(f"{trial.name}: {self._told(trial)}", flush=True)
        return True

    def _told(self, trial: Trial) -> str:
        if trial.state == "running":
            return "interrupted"
        spent = time.monotonic() - self.start
        left = self.limit - (done := self._done())
        best = self.trials.sweep.best(self.trials.history(trial))
        said = f"{trial.state} ({trial.reason})" if trial.reason else trial.state
        said += "" if best is None else f", {self.trials.sweep.metric} {best:.4f}"
        said += f"; {done} of {self.limit} done, {duration(spent)} spent"
        return said + (f", about {duration(spent / len(self.ended) * left)} left" if left else "")

    def _done(self) -> int:
        return sum(trial.state != "running" for trial in self.trials.all())


def submit(options: argparse.Namespace, folder: Path, missing: int) -> None:
    """Hands the trials that are missing to SLURM, as an array of which each task runs the next one.

    Raises:
        DataError: there is no SLURM here, it refuses, or nothing is missing.
    """
    if missing < 1:
        raise DataError(f"All trials of {folder} have ended: see {folder / 'sweep.md'}, or raise --count.")
    if shutil.which("sbatch") is None:
        raise DataError("There is no sbatch here: log in to the cluster first, or leave out --slurm.")
    if not SCRIPT.is_file():
        raise DataError(f"There is no {SCRIPT}: run from the project's folder.")
    array = f"--array=1-{missing}" + (f"%{options.jobs}" if options.jobs else "")
    output = f"--output={folder / 'slurm-%A_%a.out'}"
    asked = shlex.split(options.slurm)
    resources = [] if RESOURCES.search(f" {options.slurm}") else ["--gpus-per-node=1", "--cpus-per-gpu=8"]
    command = ["sbatch", "--parsable", array, f"--job-name={folder.name}", output, *resources, *asked]
    command += [str(SCRIPT), str(options.file), "--name", folder.name, "--runs_dir", str(options.runs_dir)]
    command += ["--count", str(options.count)] if options.count else []
    command += ["--retry_failed"] if options.retry_failed else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"sbatch refuses ({done.stderr.strip()}): give options of its own with --slurm '...'.")
    job = done.stdout.strip().partition(";")[0]
    print(
        f"Submitted {missing} trials as the array {job}. Table and figure in {folder} grow with each that ends; squeue "
        f"-j {job} shows what runs, and the same command submits again what is missing."
    )


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cli sweep",
        description=(
            f"{__doc__} Grid, random draws, Bayesian optimisation and hyperband's early stop are those of W&B's own "
            "engine. The same command goes on after a stop: trials that have ended are not run again, interrupted ones "
            "go on where they were, and failed ones are listed."
        ),
    )
    parser.add_argument("file", type=Path, help="sweep file, such as configs/sweeps/unet.yaml")
    parser.add_argument("--count", type=_positive, help="trials in all; by default the file's run_cap, or a whole grid")
    parser.add_argument("--jobs", type=_positive, help="trials at a time; one by default, by SLURM as many as it runs")
    parser.add_argument(
        "--slurm",
        nargs="?",
        const="",
        metavar="OPTIONS",
        help="submit the trials as a SLURM array, each on a GPU with 8 CPUs where no options for sbatch say otherwise: "
        "--slurm='--partition=gpu --time=8:00:00'",
    )
    parser.add_argument("--one", action="store_true", help="run the next trial alone, as each task of that array does")
    parser.add_argument("--retry_failed", action="store_true", help="try failed trials again")
    parser.add_argument("--name", help="folder under runs_dir for the trials and the table; the file's name by default")
    parser.add_argument("--runs_dir", type=Path, default=Path("runs"), help="where all runs are kept")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number
