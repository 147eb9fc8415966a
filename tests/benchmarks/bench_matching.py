"""Times the matching of objects, beside stardist's in the same run: ``python tests/benchmarks/bench_matching.py``."""

import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from stardist.matching import matching

from karyon.metrics.matching import THRESHOLDS, match_instances
from karyon.metrics.segmentation import segmentation_metrics

Labels = NDArray[np.int64]


def discs(size: int, pitch: int) -> Labels:
    """A square image, ``size`` px wide, with a disc in each cell of a grid of ``pitch`` px."""
    cells = size // pitch
    y, x = np.ogrid[:pitch, :pitch]
    disc = (y - pitch // 2) ** 2 + (x - pitch // 2) ** 2 <= (0.4 * pitch) ** 2
    labels = np.zeros((size, size), dtype=np.int64)
    ids = np.arange(1, cells**2 + 1).reshape(cells, cells)
    labels[: cells * pitch, : cells * pitch] = np.kron(ids, disc)
    return labels


def seconds(call: Callable[..., object], *args: object, repeats: int) -> float:
    """The shortest of several runs, s."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call(*args)
        times.append(time.perf_counter() - start)
    return min(times)


def peak_memory(call: Callable[..., object], *args: object) -> float:
    """The most memory allocated during a call, MB; arrays that were there before do not count."""
    tracemalloc.start()
    call(*args)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def main() -> None:
    for size, pitch, repeats in ((256, 24, 20), (1024, 28, 3), (4096, 28, 3)):
        true = discs(size, pitch)
        pred = np.roll(true, 2, axis=1)
        ours = seconds(match_instances, true, pred, repeats=repeats)
        peak = peak_memory(match_instances, true, pred)
        line = f"{size} x {size} px, {true.max():6d} objects: {1e3 * ours:8.1f} ms, {peak:6.1f} MB"
        if size <= 1024:  # stardist's dense table of 21,000 x 21,000 objects would take 3.5 GB, several times over
            assert matching(true, pred, thresh=0.5).tp == match_instances(true, pred).tp_inclusive[0]
            theirs = seconds(matching, true, pred, THRESHOLDS.tolist(), repeats=repeats)
            line += f"; stardist {1e3 * theirs:8.1f} ms, ratio {theirs / ours:.1f}"
        print(line)

    metrics = segmentation_metrics("")
    true = discs(256, 24)
    pred = np.roll(true, 2, axis=1)
    print(f"all metrics, one image of 256 x 256 px: {1e3 * seconds(metrics.update, pred, true, repeats=20):.1f} ms")


if __name__ == "__main__":
    main()
