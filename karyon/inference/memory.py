"""How large blocks may be for the memory that there is."""

import math

from karyon.errors import DataError
from karyon.inference.blocks import Blocks, Threads
from karyon.inference.engines import available_cores

BLOCK, HALO = 768, 128  # px
NEEDED, PER_PIXEL = 0.6e9, 1000  # bytes of the program, and of a pixel in a U-Net that begins with 24 channels


def blocks_within(memory: float, place: str) -> Blocks:
    """The largest blocks, up to 768 px, of which the work needs no more memory than so many bytes.

    Raises:
        DataError: it is too little for the smallest.
    """
    sides = [side for side in range(32, BLOCK + 1, 32) if NEEDED + PER_PIXEL * (side + 2 * HALO) ** 2 <= memory]
    if not sides:
        least = NEEDED + PER_PIXEL * (32 + 2 * HALO) ** 2
        raise DataError(f"{memory / 1e9:.2g} GB of memory are too few: give --memory {math.ceil(least / 1e8) / 10}G.")
    # While the network computes on all cores, what comes before and after it is done of another block.
    return Blocks(sides[-1], HALO).by(Threads(2 if place == "cpu" and available_cores() > 1 else 1))
