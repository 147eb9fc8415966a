"""How many threads torch uses where it works in many small steps."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps torch to one thread on the CPU.

    Targets are derived in thousands of steps of some microseconds. Threads that wait for each other after every step
    save nothing then; and while other processes, such as the loader's workers, use the cores, each step may cost a time
    slice, and a batch seconds instead of milliseconds.

    >>> with one_thread():
    ...     torch.get_num_threads()
    1
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
