"""The sizes of objects against the way in which they are trained on: crops, anchors, the smallest ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karyon.checks.findings import Finding, annotated, finding
from karyon.checks.image_facts import Facts
from karyon.layouts.protocol import Size

FEW = 0.05  # of the objects
FIT = 0.5  # IoU of an object and an anchor, by which the project's anchors were chosen


@dataclass(frozen=True)
class View:
    """How training looks at images.

    Attributes:
        image_size: that all are resized to; None keeps their own.
        crop: that is cut out of them then; None takes them whole.
        min_area: fragments below it are dropped, px.
    """

    image_size: Size | None = None
    crop: Size | None = None
    min_area: int = 8

    def scale(self, facts: Facts) -> NDArray[np.float64]:
        """By how much the height and the width of an image change, and those of its objects."""
        return np.divide(self.image_size or facts.size, facts.size)


def small_objects(images: Sequence[Facts], view: View) -> list[Finding]:
    """Objects that training drops for their size."""
    areas = [(facts, objects.areas * view.scale(facts).prod()) for facts, objects in annotated(images)]
    marked = [(facts, area < view.min_area) for facts, area in areas]
    what = f"with objects of less than {view.min_area} px, which training drops, {_number(marked):,} in all"
    advice = "remove slivers from the annotation; for true objects enlarge the images or lower min_area."
    return finding("small-objects", "hint", _any(marked), what, advice)


def large_objects(images: Sequence[Facts], view: View) -> list[Finding]:
    """Objects that do not fit into a crop."""
    if view.crop is None:
        return []
    height, width = view.crop
    sides = [(facts, objects.sides * view.scale(facts)) for facts, objects in annotated(images)]
    marked = [(facts, (side / view.crop).max(axis=1) > 1) for facts, side in sides]
    what = f"with objects larger than a crop of {height} x {width} px, {_number(marked):,} in all"
    advice = "training never sees them whole; take larger crops, or make the images smaller."
    return finding("crop", "hint", _any(marked), what, advice)


def shrunk_objects(images: Sequence[Facts], crop_size: Size, margin: float) -> list[Finding]:
    """Objects that lose detail where each is resized to one size, as `datamodules.crops.CropDataModule` does."""
    room = 2 * np.array(crop_size) / (1 + 2 * margin)
    marked = [(facts, (objects.sides / room).max(axis=1) > 1) for facts, objects in annotated(images)]
    what = (
        f"with objects of which a crop of {crop_size[0]} x {crop_size[1]} px shows less than every other pixel, "
        f"{_share(marked):.0%} of all objects"
    )
    found = _any(marked) if _share(marked) > FEW else []
    return finding("crop-size", "hint", found, what, "set a larger crop_size.")


def unanchored_objects(
    images: Sequence[Facts], anchor_sizes: Sequence[float], aspect_ratios: Sequence[float], view: View
) -> list[Finding]:
    """Objects that no anchor of a detector fits, wherever it stands.

    Args:
        images: the data set.
        anchor_sizes: sides of the square anchors, px.
        aspect_ratios: height to width.
        view: how training looks at the images.
    """
    roots = np.sqrt(aspect_ratios)
    anchors = (np.array(anchor_sizes)[:, None, None] * np.stack([roots, 1 / roots], axis=1)).reshape(-1, 2)
    sides = [(facts, objects.sides * view.scale(facts)) for facts, objects in annotated(images)]
    marked = [(facts, anchor_fit(side, anchors) < FIT) for facts, side in sides]
    if _share(marked) <= FEW:
        return []
    longer = np.concatenate([side[mark].max(axis=1) for (_, side), (_, mark) in zip(sides, marked, strict=True)])
    what = (
        f"with objects that no anchor fits by an IoU of {FIT:g}, {_share(marked):.0%} of all objects, their longer "
        f"sides {longer.min():.0f} to {longer.max():.0f} px"
    )
    advice = "set the network's anchor_sizes and aspect_ratios so that they cover them."
    return finding("anchors", "hint", _any(marked), what, advice)


def anchor_fit(sides: NDArray[np.number], anchors: NDArray[np.floating]) -> NDArray[np.float64]:
    """The IoU of each object's box with the anchor that fits it best, both having one centre.

    Args:
        sides: (N, 2), height and width of the boxes.
        anchors: (A, 2), of the anchors.

    >>> anchor_fit(np.array([[8, 8], [16, 4]]), np.array([[8.0, 8.0], [4.0, 4.0]]))
    array([1.        , 0.33333333])
    """
    best = np.zeros(len(sides))
    for anchor in anchors:
        overlap = np.minimum(sides, anchor).prod(axis=1)
        best = np.maximum(best, overlap / (sides.prod(axis=1) + anchor.prod() - overlap))
    return best


def crowded_images(images: Sequence[Facts], detections: int) -> list[Finding]:
    """Images of more objects than a detector is allowed to find."""
    found = [facts for facts, objects in annotated(images) if len(objects) > detections]
    what = f"with more objects than the {detections:,} that the detector may find"
    return finding("detections", "hint", found, what, "raise the network's detections and proposals, or cut tiles.")


Marked = Sequence[tuple[Facts, NDArray[np.bool_]]]
"""Of each image, which objects are meant."""


def _any(marked: Marked) -> list[Facts]:
    return [facts for facts, mark in marked if mark.any()]


def _number(marked: Marked) -> int:
    return sum(int(mark.sum()) for _, mark in marked)


def _share(marked: Marked) -> float:
    return _number(marked) / (sum(len(mark) for _, mark in marked) or 1)
