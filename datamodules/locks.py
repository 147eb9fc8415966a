"""Only one process builds what several need; the others wait, and say so."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def only_one(path: Path, what: str, patience: float = 2.0) -> Iterator[None]:
    """Lets one process at a time into the block. A process that is killed in there lets the next one in.

    Args:
        path: of the lock's file.
        what: the process that is in there does, for the line that says why nothing happens here.
        patience: s, after which that line is printed.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        print(f"Waiting for another process that is {what} (its lock: {path}) ...", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
