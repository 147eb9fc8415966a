"""What ``segment --dry-run`` says: levels, blocks, gigabytes and minutes, of which nothing is done yet."""

import argparse
import math
import time
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np

from karyon.commands.lengths import in_pixels, pixel_size_of
from karyon.commands.workers import ALONE
from karyon.errors import DataError, printable
from karyon.inference.blocks import Block
from karyon.inference.memory import NEEDED, PER_PIXEL
from karyon.inference.predictor import FIRST_LOOK
from karyon.inference.tissue import find_tissue
from karyon.inference.views import Diameter
from karyon.io.lazy_image import Image, LazyImage
from karyon.io.reading import open_image
from karyon.model import Model
from karyon.planes import PixelSize

LOOKS = 2 * FIRST_LOOK**2  # px of the first looks, both ways round


def foretell(images: Mapping[str, Path], model: Model, options: argparse.Namespace) -> int:
    """Prints a line for each file; returns the exit code."""
    print("Of each file the first image; minutes by one block of it that was tried. Nothing is written.")
    if options.workers != ALONE:
        print(f"Blocks of large images by {options.workers}; the minutes are those without them.")
    failed, minutes = 0, 0.0
    for name, path in images.items():
        try:
            pages = open_image(path, channel=options.channel)
            size = pixel_size_of(pages, options)
            diameter = in_pixels(options.diameter, size, str(path), "--diameter")
            line, seconds = _one(pages.open(0), model, diameter, size, str(path), options.everywhere)
        except DataError as error:
            failed += 1
            print(f"{printable(name)}: {error}")
            continue
        minutes += seconds * len(pages) / 60
        times = f"; {len(pages)} images" if len(pages) > 1 else ""
        print(f"{printable(name)}: {line}{times}; {seconds * len(pages) / 60:.1f} min", flush=True)
    print(f"In all {minutes:.1f} min.")
    return int(failed > 0)


def _one(
    image: Image, model: Model, diameter: Diameter, pixel_size: PixelSize | None, name: str, everywhere: bool
) -> tuple[str, float]:
    """What there is to say of an image, and how many seconds it takes."""
    scale, level, levels = model.known_scale(diameter, pixel_size.side if pixel_size else None), 0, 1
    if isinstance(image, LazyImage):
        levels += len(image.coarser)
        level = image.level_for(scale) if scale else 0
        scale, image = scale and scale * image.factor(level), image.at(level)
    tissue = find_tissue(image) if isinstance(image, LazyImage) and not everywhere else None
    size = image.shape[0], image.shape[1]
    blocks = model.predictor.blocks_of(size, scale or 1)
    every = list(product(blocks.cut(size[0]), blocks.cut(size[1])))
    cores = [core for core in every if tissue is None or tissue.touches(core, size)]
    core = cores[len(cores) // 2] if cores else (slice(0, 1), slice(0, 1))
    region = Block.around(core, blocks.halo, size).region
    shown = image.overview if isinstance(image, LazyImage) else image
    part = model.preprocessing.parts(name, np.asarray(image[region]), "dark", shown)()
    start = time.perf_counter()
    model.predictor.at_once(part[None], [part.shape[-2:]], scale or 1, False)
    pace = (time.perf_counter() - start) / math.prod(part.shape[-2:])
    looks = 0 if scale else min(LOOKS, 2 * math.prod(size))
    seconds = pace * (looks + len(cores) * (blocks.block + 2 * blocks.halo) ** 2)
    side = blocks.block + 2 * blocks.halo
    memory = NEEDED + PER_PIXEL * min(side**2, math.prod(size)) + 4 * math.prod(size)
    where = f"level {level} of {levels}" if levels > 1 else "one level"
    return f"{where}, {size[0]} x {size[1]} px; {len(cores)} of {len(every)} blocks; {memory / 1e9:.1f} GB", seconds
