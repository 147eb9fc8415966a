"""What a file says of an image beside its pixels: how large one is, and where the image lies among others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PixelSize:
    """Width and height of a pixel, and the step from a plane to the next where it is known, um."""

    x: float
    y: float
    z: float | None = None

    @classmethod
    def measured(cls, x: float, y: float, z: float = 0.0) -> "PixelSize | None":
        """What a file says, to six digits; None where that is no size, and a step of None where that is none.

        >>> PixelSize.measured(0.2500000001, 0.25, math.nan), PixelSize.measured(0, 0)
        (PixelSize(x=0.25, y=0.25, z=None), None)
        """
        wide, high, step = (float(f"{side:.6g}") if 0 < side < math.inf else None for side in (x, y, z))
        return cls(wide, high, step) if wide and high else None

    @property
    def side(self) -> float:
        """Side of a square of the same area, um."""
        return math.sqrt(self.x * self.y)

    @property
    def step(self) -> float:
        """From a plane to the next, in sides of a pixel; 1 where it is not known."""
        return self.z / self.side if self.z else 1.0


@dataclass(frozen=True)
class Plane:
    """Where an image lies among the channels, depths and times of its file.

    Attributes:
        c: its channel, from 0; -1 where it is not one of several.
        z, t: from 0.
        sizes: how many channels, depths and times there are.
    """

    c: int = -1
    z: int = 0
    t: int = 0
    sizes: tuple[int, int, int] = (1, 1, 1)

    @property
    def is_hyperstack(self) -> bool:
        """Whether its file has more than one of the three axes."""
        return sum(size > 1 for size in self.sizes) > 1

    @property
    def position(self) -> int:
        """Its number in ImageJ's stack, from 1, where channels follow each other, then depths, then times.

        0 for the only image of a file.

        >>> Plane(1, 2, 1, (2, 3, 2)).position
        12
        """
        channels, depths, _ = self.sizes
        number = (self.t * depths + self.z) * channels + max(self.c, 0) + 1
        return number if math.prod(self.sizes) > 1 else 0


def plane_of(page: int, axes: str, shape: Sequence[int], channel: tuple[int, int] | None) -> Plane:
    """The plane of one of the images of a file; axes that are neither time nor channels are counted as depth.

    Args:
        page: its number, from 0.
        axes: before height and width, without the channels; T is time.
        shape: of these axes.
        channel: the one taken, from 0, and how many there are; None where there are none.

    >>> plane_of(4, "TZ", (2, 3), (1, 2))
    Plane(c=1, z=1, t=1, sizes=(2, 3, 2))
    """
    index = np.unravel_index(page, shape) if shape else ()
    z = t = 0
    depths = times = 1
    for axis, position, length in zip(axes, index, shape, strict=True):
        if axis == "T":
            t, times = t * length + int(position), times * length
        else:
            z, depths = z * length + int(position), depths * length
    c, channels = channel or (-1, 1)
    return Plane(c, z, t, (channels, depths, times))
