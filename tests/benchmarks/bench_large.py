"""Segments large images by the default model: ``python tests/benchmarks/bench_large.py [SIDE ...]``.

A mosaic of drawn nuclei of each side (4096 and 16384 px by default), each in a process of its own, from its pixels in
memory to its objects. Prints the time, per megapixel and as a ratio to the first, and the most memory the process held.
"""

import multiprocessing
import resource
import sys
import time

import numpy as np

from datamodules.drawing import draw_nuclei
from karyon import load_model

SCENE = 256  # px


def mosaic(side: int) -> np.ndarray:
    """A grey image uint8 (side, side) of 64 scenes in random order."""
    rng = np.random.default_rng(0)
    scenes = np.stack([draw_nuclei(rng, (SCENE, SCENE), "fluorescence")[0][..., 0] for _ in range(64)])
    places = rng.integers(len(scenes), size=(side // SCENE, side // SCENE))
    return scenes[places].swapaxes(1, 2).reshape(side, side)


def measure(side: int) -> tuple[int, float, float]:
    """Number of objects, seconds, and GiB."""
    image = mosaic(side)
    start = time.perf_counter()
    found = load_model().segment(image)
    seconds = time.perf_counter() - start
    # In KiB on Linux.
    return len(found), seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Prints a line for each side."""
    first = 0.0
    for side in [int(argument) for argument in sys.argv[1:]] or [4096, 16384]:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            objects, seconds, memory = pool.apply(measure, (side,))
        pace = seconds / (side / 1000) ** 2
        first = first or pace
        print(
            f"{side} x {side} px: {objects:,} objects in {seconds:.0f} s, {pace:.2f} s a megapixel "
            f"({pace / first:.2f} of the first), {memory:.2f} GiB at most",
            flush=True,
        )


if __name__ == "__main__":
    main()
