"""Builds a cache slowly, as a process that a test can kill or race: ``python cache_builder.py FOLDER LOG IMAGES``.

Says ``ready``, waits for a line, and then writes a line to the log for each original that it reads.
"""

import signal
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from datamodules.cache import build_cache


def original(number: int) -> tuple[np.ndarray, np.ndarray]:
    """An image and its label image; any process makes the same."""
    pixels = np.random.default_rng(number).integers(0, 255, (24, 32, 3), np.uint8)
    labels = np.zeros((24, 32), np.int32)
    labels[2:8, 2:8], labels[10:20, 4:30] = 1, 2
    return pixels, labels


def read_slowly(log: Path, number: int) -> tuple[np.ndarray, np.ndarray]:
    with log.open("a") as file:
        file.write(f"{number}\n")
    time.sleep(0.04)
    return original(number)


if __name__ == "__main__":
    folder, log, images = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    # What a shell starts in the background ignores Ctrl-C, and so would this.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print("ready", flush=True)
    sys.stdin.readline()
    build_cache(folder, {f"image{i:03d}": partial(read_slowly, log, i) for i in range(images)}, "Preparing")
