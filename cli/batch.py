"""What the commands that go through many files share: what has become of each, how long it takes, going on later."""

import json
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.results_page import duration
from datamodules.sample import DataError
from lightning_modules.formats.folder import write_whole

BY_SIGNAL = 128  # and the signal's number, as shells say it
EVERY = 30  # s, of the lines about a large file
DONE_BEFORE = "done before"


class Tally:
    """What has become of each file.

    Args:
        verb: what is done to them, such as ``converted``.
    """

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.done = self.skipped = 0
        self.failed: dict[Path, str] = {}
        self.start = time.monotonic()

    def fail(self, path: Path, reason: str) -> str:
        """Remembers why a file could not be used; returns what there is to say of it."""
        self.failed[path] = reason.removeprefix(str(path)).lstrip(":, ")
        return f"failed: {self.failed[path]}"

    def summary(self) -> int:
        """Prints how it went; returns the exit code: 1 if some files failed."""
        spent = duration(time.monotonic() - self.start)
        print(f"{self.done} {self.verb}, {self.skipped} {DONE_BEFORE}, {len(self.failed)} failed; {spent}.")
        for path, reason in self.failed.items():
            print(f"  {path}: {reason}", file=sys.stderr)
        return 1 if self.failed else 0


@contextmanager
def stoppable() -> Iterator[None]:
    """Lets a scheduler end the work as Ctrl-C does: with a KeyboardInterrupt, which holds the signal's number."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    earlier = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def stopped(stop: KeyboardInterrupt, tally: Tally) -> int:
    """Says how it went until it was stopped; returns the exit code."""
    tally.summary()
    print("Interrupted; the same command goes on where it stopped.", file=sys.stderr)
    return BY_SIGNAL + (stop.args[0] if stop.args else signal.SIGINT)


class Report(Protocol):
    """Takes a file, what has become of it, and which share of it is done with."""

    def __call__(self, name: str, what: str, share: float = 1.0) -> None: ...


@contextmanager
def progress(title: str, total: int) -> Iterator[Report]:
    """Tells how far it is and how long it will take.

    A bar on a terminal; elsewhere a line a file, and for a large one now and then a line more.

    Args:
        title: of the bar.
        total: number of files.

    Yields:
        takes the files one after the other, each as often as there is something to say.
    """
    done = 0
    if sys.stdout.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns) as bar:
            task = bar.add_task(title, total=total)

            def advance(name: str, what: str, share: float = 1.0) -> None:
                nonlocal done
                bar.update(task, completed=done + share)
                done += share == 1
                if what.startswith("failed"):
                    bar.console.print(f"{name}: {what}", markup=False, highlight=False)

            yield advance
        return
    start = said = time.monotonic()
    worked = 0

    def line(name: str, what: str, share: float = 1.0) -> None:
        nonlocal done, worked, said
        now = time.monotonic()
        # What was done before takes no time, and of nothing no time can be told.
        work = worked + (share if what != DONE_BEFORE else 0)
        if share == 1 or (now - said >= EVERY and work):
            spent, said = now - start, now
            left = f", about {duration(spent / work * (total - done - share))} left" if work else ""
            print(f"[{done + 1}/{total}] {name}: {what}  {duration(spent)} spent{left}", flush=True)
        done += share == 1
        worked += share == 1 and what != DONE_BEFORE

    yield line


def resumes(path: Path, settings: Mapping[str, Any], remedy: str) -> bool:
    """Whether results made with the same settings are there to go on with; writes the settings down where none are.

    Args:
        path: the file of the settings, beside the results.
        settings: the present ones.
        remedy: what to do where they differ from the earlier ones.

    Raises:
        DataError: they do.
    """
    if not path.exists():
        write_whole(path, (json.dumps(settings, indent=1) + "\n").encode())
        return False
    try:
        earlier = dict(json.loads(path.read_text()))
    except (ValueError, TypeError):
        earlier = {}
    if differing := sorted(key for key in settings if earlier.get(key) != settings[key]):
        raise DataError(f"{path.parent} holds results of other options ({', '.join(differing)}): {remedy}.")
    return True
