"""How an image is seen: bright on dark or inverted, and so large that its objects are as those a network knows best."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, TypeVar

from karyon.inference.blocks import Found
from karyon.instances import Instances, median_diameter

FEWEST = 5  # objects of which a median says something
SMALLEST, LARGEST = 1 / 8, 3.0  # times as large an image is seen
# Between these an image stays as it is: it would look much the same, and enlarged it costs much time. Beyond, what is
# found more surely is taken: in training, objects have been so much smaller or larger, too. On validation images whose
# nuclei are 2.5 times the median the DSB score falls by .12 where they are brought to it unseen.
NEAR = 0.6, 2.0
SURE = 0.78  # mean score: where nuclei are seen the wrong way round in tissue, it has been .75 at most
FURTHER = 1 / 4, 2.0  # where next to nothing is found at the image's own scale

Diameter = float | Literal["auto"] | None
"""Typical diameter of an image's objects, px; auto finds it in a first look; None keeps the image's scale."""

T = TypeVar("T")


@dataclass(frozen=True)
class View:
    """How an image is seen.

    Attributes:
        inverted: whether bright becomes dark.
        scale: how many times as large.
    """

    inverted: bool = False
    scale: float = 1.0


AS_IS = View()


def choose_view(
    find: Callable[[View], Found],
    model_diameter: float | None,
    diameter: Diameter,
    polarities: Sequence[bool],
    usual: Callable[[], bool | None] = lambda: None,
) -> tuple[View, Found | None]:
    """Decides how an image is seen, by what is found in it, where that has to be decided.

    Of both polarities the one is taken whose objects' scores have the greater sum: inverted the wrong way, few objects
    are found, and none surely.

    Args:
        find: finds objects in a first look.
        model_diameter: of the objects that the network knows best, px; None where a scale is not asked for.
        diameter: of the image's objects.
        polarities: whether to invert; both where that is to be decided.
        usual: tells whether images of this kind are inverted, where neither way shows anything surely; None if unknown.

    Returns:
        the view, and what was found in it where it was looked at.
    """
    scale = model_diameter / diameter if model_diameter and isinstance(diameter, int | float) else 1.0
    views = [View(inverted, scale) for inverted in polarities]
    if len(views) == 1 and diameter != "auto":
        return views[0], None
    looks = {view: find(view) for view in views}
    view = max(looks, key=lambda view: certainty(looks[view]))
    # Asked for only then: it looks at every pixel.
    if len(views) > 1 and looks[view][1].confidence < SURE and (inverted := usual()) is not None:
        view = View(inverted, scale)
    if diameter != "auto" or model_diameter is None:
        return view, looks[view]
    if len(looks[view][1]) < FEWEST:
        # What little was found tells the polarity; where that is nothing, both remain.
        left = [view.inverted] if len(looks[view][1]) else polarities
        looks |= {other: find(other) for scale in FURTHER for other in (View(inverted, scale) for inverted in left)}
        view = max(looks, key=lambda view: (len(looks[view][1]) >= FEWEST, view.scale == 1, certainty(looks[view])))
    wanted = replace(view, scale=rescaling(model_diameter, looks[view][1]))
    if wanted not in looks:
        looks[wanted] = find(wanted)
    best = max((wanted, view), key=lambda view: (len(looks[view][1]) >= FEWEST, looks[view][1].confidence))
    return best, looks[best]


def certainty(found: Found) -> float:
    """The sum of the scores of what was found."""
    return float(found[1].scores.sum())


def rescaling(diameter: float, found: Instances) -> float:
    """How many times as large an image is to be seen.

    Args:
        diameter: that the median of its objects is to have, px.
        found: in a first look; of too few nothing is known.

    >>> import numpy as np
    >>> stripes = Instances.from_labels(np.tile(np.arange(1, 6), (113, 1)))  # five of 113 px, as discs of 12 px have
    >>> [round(rescaling(diameter, stripes), 2) for diameter in (24, 3, 72, 15)]
    [2.0, 0.25, 3.0, 1.0]
    """
    if len(found) < FEWEST:
        return 1.0
    scale = diameter / median_diameter(found)
    return 1.0 if NEAR[0] <= scale <= NEAR[1] else min(max(scale, SMALLEST), LARGEST)


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
