"""Small stacks in the layout of ISBI 2012, as files and as an archive."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from datamodules.isbi2012 import ISBI2012DataModule

SECTIONS, HEIGHT, WIDTH = 8, 24, 32
RNG = np.random.default_rng(0)
VOLUME, TEST_VOLUME = RNG.integers(0, 2**8, (2, SECTIONS, HEIGHT, WIDTH), np.uint8)


def annotation(first: int) -> np.ndarray:
    """Section k has a membrane from top to bottom at ``first`` + k, and one to its right, half way down."""
    labels = np.full((SECTIONS, HEIGHT, WIDTH), 255, np.uint8)
    for k, section in enumerate(labels):
        section[:, first + k] = 0
        section[12, first + k :] = 0
    return labels


STACKS = {
    "train-volume.tif": VOLUME,
    "train-labels.tif": annotation(5),
    "test-volume.tif": TEST_VOLUME,
    "test-labels.tif": annotation(15),
}


def write(folder: Path, *names: str, **changed: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or [name for name in STACKS if name != "test-labels.tif"]:
        pixels = changed.get(name.removesuffix(".tif").replace("-", "_"), STACKS[name])
        tifffile.imwrite(folder / name, pixels, photometric="minisblack", compression="zlib")
    return folder


def module(root: Path, stages: str = "", **kwargs: Any) -> ISBI2012DataModule:
    """A data module of small stacks, set up for some stages."""
    arguments = {"manifest": None, "num_workers": 0, "blocks": 4, "fold": 3, "cache_dir": root / "cache", **kwargs}
    data = ISBI2012DataModule(root=root, **arguments)
    for stage in stages.split():
        data.setup(stage)
    return data


def names(data: ISBI2012DataModule, part: str) -> list[str]:
    return [item.name for item in data.items[part]]


def train(*numbers: int) -> list[str]:
    return [f"train-volume-{number:02d}" for number in numbers]


def pack(stacks: Path, archive: Path, *folders: str) -> Path:
    """An archive of the stacks, within each of these folders; where one is macOS's, of its hidden twins."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w") as file:
        for folder in folders:
            for path in stacks.glob("*.tif"):
                twin = "__MACOSX" in folder
                file.writestr(f"{folder}{path.name}", b"Mac OS X" if twin else path.read_bytes())
    return archive.parent
