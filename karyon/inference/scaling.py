"""At which scale an image is seen, so that its objects are about as large as those that a network knows best."""

from dataclasses import fields, replace
from typing import TypeVar

from karyon.instances import Instances, median_diameter

FEWEST = 5  # objects of which a median says something
LARGEST = 3.0  # times as large an image is seen at most, since memory and time grow with the square

T = TypeVar("T")


def enlargement(diameter: float, found: Instances) -> float:
    """How many times as large an image is to be seen, from 1 to 3.

    Args:
        diameter: that the median of its objects is to have, px.
        found: in a first look; of too few nothing is known.

    >>> import numpy as np
    >>> stripes = Instances.from_labels(np.tile(np.arange(1, 6), (113, 1)))  # five of 113 px, as discs of 12 px have
    >>> [round(enlargement(diameter, stripes), 2) for diameter in (24, 3, 72)]
    [2.0, 1.0, 3.0]
    """
    return min(max(diameter / median_diameter(found), 1.0), LARGEST) if len(found) >= FEWEST else 1.0


def size_at(scale: float, height: int, width: int) -> tuple[int, int]:
    """Height and width of an image that is seen so many times as large, px."""
    return max(1, round(height * scale)), max(1, round(width * scale))


def areas_at(scale: float, postprocessing: T) -> T:
    """Post-processing for images that are seen so many times as large.

    It works at the image's own size, and its areas, px, were chosen at the network's scale.

    Args:
        scale: how many times as large.
        postprocessing: a dataclass.
    """
    if scale == 1:
        return postprocessing
    areas = [field.name for field in fields(postprocessing) if field.name.endswith("area")]  # type: ignore[arg-type]
    changed = {name: round(getattr(postprocessing, name) / scale**2) for name in areas}
    return replace(postprocessing, **changed)  # type: ignore[type-var]
