"""What all commands say on the console: bars, tables, numbers, durations, and the codes they exit with."""

import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol, TypeVar

from karyon.errors import printable

BY_SIGNAL = 128  # and the signal's number, as shells say it
UNHEARD = BY_SIGNAL + 13  # SIGPIPE, which Windows has not
EVERY = 30  # s, between lines on work that goes on
DONE_BEFORE = "done before"
NAMED = 3  # files in a sentence
NONE = "-"  # in a table

T = TypeVar("T")


def duration(seconds: float) -> str:
    """A time in words.

    >>> duration(42), duration(4350)
    ('42 s', '1 h 12 min')
    """
    if seconds < 600:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def counted(number: int, noun: str) -> str:
    """A number and what it counts.

    >>> counted(1, "image"), counted(2000, "image")
    ('1 image', '2,000 images')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def named(names: Sequence[str], most: int = NAMED) -> str:
    """The first few of many names.

    >>> named(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def number(value: float | None, metric: str = "") -> str:
    """A measured value: four decimals, counts two."""
    if value is None:
        return NONE
    return f"{value:.2f}" if metric.startswith("count") else f"{value:.4f}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A Markdown table.

    Args:
        header: of each column.
        rows: the cells.
        words: the number of leading columns that hold words; the others hold numbers and are aligned to the right.

    >>> print(table(["a", "b"], [["x|y", "1"]]))
    | a | b |
    | --- | ---: |
    | x\\|y | 1 |
    """
    rule = ["---"] * words + ["---:"] * (len(header) - words)
    lines = [header, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


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
        self.failed[path] = reason.removeprefix(printable(str(path))).lstrip(":, ")
        return f"failed: {self.failed[path]}"

    def summary(self) -> int:
        """Prints how it went; returns the exit code: 1 if some files failed."""
        spent = duration(time.monotonic() - self.start)
        print(f"{self.done} {self.verb}, {self.skipped} {DONE_BEFORE}, {len(self.failed)} failed; {spent}.")
        for path, reason in self.failed.items():
            print(f"  {printable(f'{path}: {reason}')}", file=sys.stderr)
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
    """Takes the name of a file, what has become of it, and which share of it is done."""

    def __call__(self, name: str, what: str = "", share: float = 1.0) -> None: ...


@contextmanager
def progress(title: str, total: int, each: bool = True) -> Iterator[Report]:
    """Tells how far the work is and how long it will take.

    A bar on a terminal; elsewhere a line every 30 s.

    Args:
        title: of the bar.
        total: number of files.
        each: whether each file has a line when it is done.

    Yields:
        takes the files one after the other, each as often as there is something to say.
    """
    if sys.stdout.isatty():
        with _bar(title, total) as report:
            yield report
        return
    start = said = time.monotonic()
    done = worked = 0

    def line(name: str, what: str = "", share: float = 1.0) -> None:
        nonlocal done, worked, said
        now = time.monotonic()
        # What was done before takes no time, and from nothing no time can be estimated.
        work = worked + (share if what != DONE_BEFORE else 0)
        if (each and share == 1) or (now - said >= EVERY and work):
            spent, said = now - start, now
            left = f", about {duration(spent / work * (total - done - share))} left" if work else ""
            about = printable(f"{name}: {what}" if what else name)
            print(f"[{done + 1}/{total}] {about}  {duration(spent)} spent{left}", flush=True)
        done += share == 1
        worked += share == 1 and what != DONE_BEFORE

    yield line


@contextmanager
def _bar(title: str, total: int) -> Iterator[Report]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    done = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(title, total=total)

        def advance(name: str, what: str = "", share: float = 1.0) -> None:
            nonlocal done
            bar.update(task, completed=done + share)
            done += share == 1
            if what.startswith("failed"):
                bar.console.print(printable(f"{name}: {what}"), markup=False, highlight=False)

        yield advance


def tracked(work: Iterable[T], total: int, title: str) -> Iterator[T]:
    """Hands on each piece of the work, and tells how far it is: a bar on a terminal, elsewhere a line every 30 s."""
    with progress(title, total, each=False) as report:
        for piece in work:
            report(title)
            yield piece
