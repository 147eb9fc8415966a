"""What the commands that go through many files share: what has become of each, how long it takes, going on later."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.results_page import duration
from datamodules.sample import DataError
from lightning_modules.formats.folder import write_whole

INTERRUPTED = 130  # as shells say it


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
        self.failed[path] = reason.removeprefix(f"{path}: ").removeprefix(f"{path} ")
        return f"failed: {self.failed[path]}"

    def summary(self) -> int:
        """Prints how it went; returns the exit code: 1 if some files failed."""
        spent = duration(time.monotonic() - self.start)
        print(f"{self.done} {self.verb}, {self.skipped} done before, {len(self.failed)} failed; {spent}.")
        for path, reason in self.failed.items():
            print(f"  {path}: {reason}", file=sys.stderr)
        return 1 if self.failed else 0


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[str, str], None]]:
    """Tells how far it is and how long it will take: a bar on a terminal, a line a file elsewhere.

    Args:
        title: of the bar.
        total: number of files.

    Yields:
        takes a file that is done with, and what has become of it.
    """
    if sys.stdout.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns) as bar:
            task = bar.add_task(title, total=total)

            def advance(name: str, what: str) -> None:
                bar.advance(task)
                if what.startswith("failed"):
                    bar.console.print(f"{name}: {what}", markup=False, highlight=False)

            yield advance
        return
    start = time.monotonic()
    done = 0

    def line(name: str, what: str) -> None:
        nonlocal done
        done += 1
        spent = time.monotonic() - start
        left = duration(spent / done * (total - done))
        print(f"[{done}/{total}] {name}: {what}  {duration(spent)} spent, about {left} left", flush=True)

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
