"""Segments large images and slides by the command, as whole processes: seconds and the most memory of each.

    python tests/benchmarks/bench_large.py [--sides 8192 16384] [--slides 8192 16384 32768 65536] [--workers 8192]
        [--blocks 2048] [--figure memory.png]

`--sides`: TIFFs of drawn fluorescence, covered by nuclei. `--slides`: pyramids of drawn stained tissue on a tenth of
glass, at twice the size that they are drawn at. `--workers`: a TIFF of that side
by one process, one worker of Dask and two. `--blocks`: three mosaics of that side, whole, and in
blocks of 512 px by two threads: how many objects differ.
"""

import argparse
import math
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import tifffile
from bench_start import measure
from numpy.typing import NDArray

from datamodules.drawing import draw_nuclei
from karyon import load_model
from karyon.inference.blocks import Blocks, Threads
from karyon.inference.memory import HALO
from karyon.metrics.matching import match_instances

TILE, SCENES = 512, 32
Pixels = NDArray[np.uint8]


def scenes(modality: str, scale: float, seed: int = 0) -> Pixels:
    """Drawn images (SCENES, TILE, TILE, 3), their nuclei ``scale`` times as large as they are drawn."""
    rng = np.random.default_rng(seed)
    size = round(TILE / scale), round(TILE / scale)
    return np.stack([cv2.resize(draw_nuclei(rng, size, modality)[0], (TILE, TILE)) for _ in range(SCENES)])


def write_mosaic(path: Path, side: int, seed: int = 0) -> None:
    """A tiled grey TIFF (side, side), covered by nuclei, some 23,000 in 8,192 x 8,192 px."""
    parts = [zlib.compress(part.tobytes(), 1) for part in scenes("fluorescence", 2, seed)[..., 0].copy()]
    order = np.random.default_rng(seed).integers(SCENES, size=(side // TILE) ** 2)
    shape = {"shape": (side, side), "dtype": np.uint8, "tile": (TILE, TILE), "compression": "zlib"}
    tifffile.imwrite(path, (parts[k] for k in order), photometric="minisblack", bigtiff=True, **shape)


def write_slide(path: Path, side: int) -> None:
    """A pyramid (side, side, 3) of .25 um pixels, by steps of 2, with tissue in a square of a tenth of its area."""
    drawn = scenes("histology", scale=2)
    glass = np.full((TILE, TILE, 3), 242, np.uint8)
    number = side // TILE
    edge = max(1, round(math.sqrt(0.1) * number))
    first = (number - edge) // 2

    def scene(row: int, column: int) -> int:
        """Which one lies there; -1 is glass."""
        inside = first <= row < first + edge and first <= column < first + edge
        return (row * 7919 + column * 104729) % SCENES if inside else -1

    def tiles(step: int) -> Iterator[bytes]:
        small = np.stack([part[::step, ::step] for part in [*drawn, glass]])
        empty = zlib.compress(glass.tobytes(), 1)
        for top in range(0, number, step):
            for left in range(0, number, step):
                places = [[scene(top + i, left + j) for j in range(step)] for i in range(step)]
                filled = np.max(places) >= 0
                part = np.vstack([np.hstack(list(small[row])) for row in places]) if filled else glass
                yield zlib.compress(part.tobytes(), 1) if filled else empty

    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        step = 1
        while step == 1 or side // step >= 2048:
            shape = (side // step, side // step, 3)
            options = {"photometric": "rgb", "metadata": None, "subfiletype": int(step > 1)}
            options |= {"resolution": (40000 / step, 40000 / step), "resolutionunit": "CENTIMETER"}
            writer.write(tiles(step), shape=shape, dtype=np.uint8, tile=(TILE, TILE), compression="zlib", **options)
            step *= 2


def segment(image: Path, *options: str) -> tuple[Path, float, float]:
    """The results of the command, wall seconds and the peak of memory, GiB, of its largest process."""
    out = image.parent / "out"
    command = [sys.executable, "-m", "cli", "segment", str(image), "--out", str(out), "--overwrite", "--device", "cpu"]
    _, seconds, peak = measure([*command, *options])
    return out, seconds, peak / 1024


def count(out: Path) -> int:
    return sum(1 for _ in (out / "objects.csv").open()) - 1


def report(what: str, out: Path, seconds: float, memory: float) -> None:
    print(f"{what}: {count(out):,} objects in {seconds:.0f} s, {memory:.2f} GiB", flush=True)


def compare_blocks(path: Path, side: int) -> None:
    """Prints how many objects differ between one look at the whole and blocks of 512 px by two threads."""
    model = load_model(device="cpu")
    for seed in range(3):
        write_mosaic(path, side, seed)
        image = tifffile.imread(path)
        found = []
        for blocks in (None, Blocks(512, HALO).by(Threads(2))):
            model.predictor.blocks = blocks
            found.append(model.segment(image).labels)
        matching = match_instances(*found)
        alike, equal = (matching.ious > 0.99).sum(), (matching.ious == 1).sum()
        print(f"mosaic {seed} of {side} px: {matching.n_true} objects whole, {matching.n_pred} in blocks;", end=" ")
        print(f"{alike} have an IoU above .99, {equal} are equal to the pixel", flush=True)


def draw_figure(path: Path, sides: list[int], peaks: list[float]) -> None:
    """The memory that slides took, by their side."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
    axes.plot(sides, peaks, "o-", color="#0072b2")
    axes.set(xscale="log", xticks=sides, xticklabels=[f"{side:,}" for side in sides], ylim=(0, 1.3 * max(peaks)))
    axes.set(xlabel="side of the slide, px", ylabel="peak memory, GiB")
    axes.minorticks_off()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("sides", "slides", "workers", "blocks"):
        parser.add_argument(f"--{name}", type=int, nargs="*", default=[], metavar="PX")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.tif"
        for side in options.sides:
            write_mosaic(image, side)
            report(f"{side} x {side} px", *segment(image, "--formats", "labels", "objects"))
        peaks = []
        for side in options.slides:
            write_slide(image, side)
            found = segment(image, "--formats", "objects", "geojson", "--diameter", "12um")
            report(f"slide of {side} x {side} px, {image.stat().st_size / 1e6:.0f} MB", *found)
            peaks.append(found[-1])
        for side in options.workers:
            write_mosaic(image, side)
            for number in ((), ("--workers", "1"), ("--workers", "2")):
                report(f"{side} px {' '.join(number)}", *segment(image, "--formats", "labels", "objects", *number))
        for side in options.blocks:
            compare_blocks(image, side)
        if options.figure:
            draw_figure(options.figure, options.slides, peaks)


if __name__ == "__main__":
    main()
