"""What is done to a layer's pixels, without a window: objects of each plane, and a table of them, the worst first."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from karyon.errors import DataError
from karyon.inference.views import Diameter
from karyon.labels import LabelImage
from karyon.model import Model, load_model
from karyon.preprocessing import Background, Pixels

Table = dict[str, NDArray[Any]]
COLOURS = ("all", "red", "green", "blue")

# A model that was used a moment ago is used again.
cached_model = lru_cache(maxsize=2)(load_model)


class StoppedError(Exception):
    """The user has stopped the work."""


@dataclass(frozen=True)
class Look:
    """How a layer is looked at.

    Attributes:
        background, diameter: see `karyon.model.Model.answer`.
        pixel_size: um; None where it is not known.
        colour: of an RGB layer, one of `COLOURS`.
    """

    background: Background = "auto"
    diameter: Diameter = "auto"
    pixel_size: float | None = None
    colour: str = "all"


@dataclass(frozen=True)
class Segmented:
    """What is found in a layer.

    Attributes:
        labels: int32, of the layer's shape; numbers go on from plane to plane.
        scores: of each number.
        notes: what is to be said of the planes.
    """

    labels: LabelImage
    scores: dict[int, float]
    notes: tuple[str, ...]


def plane_of(pixels: Any, rgb: bool, index: tuple[int, ...], colour: str = "all") -> Pixels:
    """One plane of a layer, (H, W) or (H, W, 3); a channel of it, where one is chosen; without transparency."""
    plane = np.asarray(pixels[index])
    if not rgb:
        return plane
    return plane[..., :3] if colour == "all" else plane[..., COLOURS.index(colour) - 1]


def segment_layer(
    pixels: Any, rgb: bool, model: Model, look: Look, report: Callable[[float], None] = lambda share: None
) -> Segmented:
    """Segments every plane of a layer on its own.

    Args:
        pixels: (..., H, W), or (..., H, W, 3 or 4) in colour, an array of any kind.
        rgb: whether it is in colour.
        model: finds the objects.
        look: how the planes are looked at.
        report: is told the share that is done; what it raises ends the work.

    Raises:
        DataError: the pixels cannot be used.
    """
    shape = pixels.shape[:-1] if rgb else pixels.shape
    if len(shape) < 2:
        raise DataError(f"The layer has the shape {tuple(shape)}: choose one of images.")
    labels, scores, notes = np.zeros(shape, np.int32), dict[int, float](), dict[str, None]()
    planes = list(np.ndindex(*shape[:-2]))
    for done, index in enumerate(planes):

        def share_of(share: float, done: int = done) -> None:
            report((done + share) / len(planes))

        share_of(0)
        plane = plane_of(pixels, rgb, index, look.colour)
        answer = model.answer(
            plane,
            look.diameter,
            f"plane {index}" if index else "image",
            share_of,
            look.background,
            look.pixel_size,
        )
        first = len(scores)
        labels[index] = np.where(answer.instances.labels, answer.instances.labels + first, 0)
        scores |= {first + k: float(score) for k, score in enumerate(answer.instances.scores, start=1)}
        notes |= {answer.note: None} if answer.note else {}
    return Segmented(labels, scores, tuple(notes))


def keep_corrections(found: Segmented, before: LabelImage, corrected: LabelImage) -> tuple[Segmented, LabelImage]:
    """Puts what a user has corrected into what is found anew: objects that were drawn or changed, and what was erased.

    Args:
        found: anew.
        before: integers of the layer's shape: what a model had found.
        corrected: the same, after the user's corrections.

    Returns:
        What is to be shown, and what the next corrections are to be told from.

    >>> before, corrected = np.array([1, 1, 0, 2, 0, 3, 3]), np.array([1, 1, 4, 0, 0, 3, 3])  # one drawn, one erased
    >>> anew = Segmented(np.array([1, 1, 1, 2, 0, 3, 0]), {1: 0.9, 2: 0.5, 3: 0.8}, ())
    >>> shown, base = keep_corrections(anew, before, corrected)
    >>> shown.labels, shown.scores, base
    (array([1, 1, 7, 0, 0, 3, 0]), {1: 0.9, 3: 0.8}, array([1, 1, 0, 2, 0, 3, 0]))
    """
    changed = before != corrected
    numbers = np.union1d(before[changed], corrected[changed])
    own = np.isin(corrected, numbers[numbers > 0])
    fixed, last = own | changed, int(found.labels.max())
    areas = np.bincount(found.labels.ravel())
    # What lies mostly where the user has decided already.
    gone = 2 * np.bincount(found.labels[fixed], minlength=last + 1) > areas
    labels = np.where(own, corrected + last, np.where(fixed | gone[found.labels], 0, found.labels))
    scores = {number: score for number, score in found.scores.items() if not gone[number]}
    return replace(found, labels=labels, scores=scores), np.where(own, 0, found.labels)


def features(labels: LabelImage, scores: Mapping[int, float]) -> Table:
    """A row an object, those with the lowest score first; drawn ones, which have none, last.

    Args:
        labels: integers of any shape, 0 is background; they may have been corrected.
        scores: of those that a model has found.

    Returns:
        ``index`` (the number), ``doubt`` (1 - score), ``score``, ``area`` (px), and the centre as ``axis-0``, ... (px).

    >>> features(np.array([[1, 0, 2, 2, 0, 5]]), {1: 0.9, 2: 0.6})["index"]
    array([2, 1, 5])
    """
    numbers, areas = np.unique(labels[labels > 0], return_counts=True)
    centres = np.reshape(ndimage.center_of_mass(labels > 0, labels, numbers), (len(numbers), labels.ndim))
    score = np.array([scores.get(int(number), np.nan) for number in numbers])
    worst = np.argsort(score, kind="stable")
    table = {"index": numbers, "doubt": 1 - score, "score": score, "area": areas}
    table |= {f"axis-{axis}": centres[:, axis] for axis in range(labels.ndim)}
    return {name: column[worst] for name, column in table.items()}


def next_doubtful(table: Mapping[str, Any], seen: set[int]) -> tuple[int, tuple[float, ...]] | None:
    """The number and the centre of the most doubtful object that has not been looked at; None after the last one.

    Args:
        table: of `features`.
        seen: numbers that have been looked at.
    """
    axes = sorted(name for name in table if name.startswith("axis-"))
    for row, number in enumerate(np.asarray(table["index"])):
        if int(number) not in seen and np.isfinite(np.asarray(table["score"])[row]):
            return int(number), tuple(float(np.asarray(table[axis])[row]) for axis in axes)
    return None
