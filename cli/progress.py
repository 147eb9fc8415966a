"""How far a long piece of work is."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.results_page import duration

EVERY = 10  # s

T = TypeVar("T")


def tracked(work: Iterable[T], total: int, title: str) -> Iterator[T]:
    """Tells how far it is and how long it will take: a bar on a terminal, elsewhere a line every ten seconds."""
    if sys.stdout.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, transient=True) as bar:
            yield from bar.track(work, total=total, description=title)
        return
    start = said = time.monotonic()
    for done, piece in enumerate(work, start=1):
        now = time.monotonic()
        if now - said >= EVERY:
            left = (now - start) / done * (total - done)
            print(f"{title}: {done}/{total}, {duration(now - start)} spent, about {duration(left)} left", flush=True)
            said = now
        yield piece
