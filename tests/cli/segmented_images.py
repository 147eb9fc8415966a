"""Images for `segment`, and what it leaves."""

import csv
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage

# Two bright squares on dark, the stand-in model's idea of objects.
SQUARES = np.zeros((20, 30), np.uint8)
SQUARES[3:9, 4:10] = SQUARES[10:18, 15:28] = 200
LABELS = ndimage.label(SQUARES)[0]
NOISE = np.random.default_rng(0).integers(0, 255, SQUARES.shape).astype(np.uint8)


def labels(name: str, out: str = "segmented") -> np.ndarray:
    return tifffile.imread(Path(out) / "labels" / name)


def counts(out: str = "segmented") -> dict[str, int]:
    with (Path(out) / "counts.csv").open(newline="") as file:
        return {row["image"]: int(row["objects"]) for row in csv.DictReader(file)}
