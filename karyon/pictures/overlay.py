"""Pictures of label images for people: outlines on the image they belong to, beside the image alone."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from karyon.io.lazy_image import Image, LazyImage
from karyon.labels import LabelImage, object_areas, object_boxes
from karyon.pictures.jet import Picture, paint_instances
from karyon.pictures.outlines import colour_neighbours, outline
from karyon.planes import PixelSize

SMALL, LARGE = 512, 2048  # px; panels are enlarged up to the one and shrunk down to the other
GAP, CAPTION = 6, 24  # px
LARGE_OBJECT = 300  # px; the outline of a smaller one is a thin line, that its pixels may be seen
PAPER, INK, SHADOW = (32, 32, 32), (225, 225, 225), (0, 0, 0)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def display_image(source: NDArray[Any]) -> Picture:
    """Turns original pixels of any type into a picture in which a person sees something.

    8-bit images that use at least half of their range stay as they are. All others are stretched between their 0.1 and
    99.9 percentiles, the channels together so that hues stay.

    Args:
        source: (H, W) or (H, W, 3 RGB), any type; values that are not finite are shown black.

    Returns:
        uint8 (H, W, 3) RGB; black where all pixels are equal.

    >>> display_image(np.array([[0, 400], [1000, 200]], np.uint16))[..., 0]
    array([[  0, 102],
           [255,  51]], dtype=uint8)
    """
    # What single precision cannot hold is not finite.
    with np.errstate(over="ignore"):
        values = source.astype(np.float32)
    finite = np.isfinite(values)
    low, high = np.percentile(values[finite], (0.1, 99.9)) if finite.any() else (0.0, 0.0)
    if source.dtype == np.uint8 and high >= 128:
        picture = source
    else:
        unit = (np.where(finite, values, low) - low) / (high - low or 1)
        picture = np.rint(255 * unit.clip(0, 1)).astype(np.uint8)
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)


def side_by_side(
    source: Image,
    pred_labels: LabelImage,
    truth_labels: LabelImage | None = None,
    pixel_size: PixelSize | None = None,
    scores: Sequence[float] | NDArray[np.float32] | None = None,
    filled: bool = False,
) -> Picture:
    """Lays out input, truth (where there is one) and result from left to right, each with a caption above.

    Truth and result are outlines on the input, neighbours in different colours that colour-blind people tell apart.
    Captions count the objects. Small images are enlarged to at least 512 px, by a whole number, so that single pixels
    can be seen; large ones are shrunk to at most 2,048 px.

    Args:
        source: original pixels, (H, W) or (H, W, 3 RGB), any type.
        pred_labels: integers (H, W), 0 is background.
        truth_labels: the same for the annotation, -1 where there is none.
        pixel_size: where it is known, a scale bar stands above the input.
        scores: of the predicted objects, to be written beside them.
        filled: whether truth and result are filled in the jet colour map, on black, as in the figure of Shihavuddin et
            al. 2018; see `karyon.pictures.jet`.

    Returns:
        uint8 (H', W', 3) RGB.
    """
    picture = _scale_picture(source)
    panels = [captioned(picture, "input")]
    for name, labels in (("truth", truth_labels), ("result", pred_labels)):
        if labels is not None:
            panel = _filled(labels) if filled else _outlined(picture, labels)
            panels.append(captioned(panel, f"{name}: {count_objects(labels)}"))
    if scores is not None:
        _write_scores(panels[-1][CAPTION:], pred_labels, scores)
    if pixel_size:
        up, down = _scale(*source.shape[:2])
        _draw_scale_bar(panels[0][:CAPTION], pixel_size.x * down / up)
    gap = np.full((len(panels[0]), GAP, 3), PAPER, np.uint8)
    return np.concatenate([part for panel in panels for part in (gap, panel)][1:], axis=1)


def _outlined(picture: Picture, labels: LabelImage) -> Picture:
    up, down = _scale(*labels.shape)
    # Of the small image, whose neighbours are those of the enlarged one.
    colours = colour_neighbours(labels[::down, ::down])
    areas = object_areas(labels) * (up / down) ** 2
    large = areas.any() and np.median(areas[areas > 0]) > LARGE_OBJECT
    return outline(picture, _scale_labels(labels), colours, width=2 if large else 1)


def _filled(labels: LabelImage) -> Picture:
    return paint_instances(_scale_labels(labels))


def _write_scores(picture: Picture, labels: LabelImage, scores: Sequence[float] | NDArray[np.float32]) -> None:
    """Writes each object's score, in hundredths, into its middle."""
    up, down = _scale(*labels.shape)
    for (left, top, right, bottom), score in zip(object_boxes(labels).tolist(), scores, strict=True):
        text = f"{100 * score:.0f}"
        place = round((left + right) / 2 * up / down) - 4 * len(text), round((top + bottom) / 2 * up / down) + 4
        for colour, thickness in ((SHADOW, 3), (INK, 1)):
            cv2.putText(picture, text, place, FONT, 0.4, colour, thickness, cv2.LINE_AA)


def _draw_scale_bar(strip: Picture, pixel: float) -> None:
    """Draws a bar of a round length, at most a third of the strip, to its right end.

    Args:
        strip: that it is drawn on.
        pixel: width of a pixel that is shown, um.
    """
    length = round_length(strip.shape[1] / 3 * pixel)
    right, side = strip.shape[1] - 4, round(length / pixel)
    cv2.rectangle(strip, (right - side + 1, CAPTION - 12), (right, CAPTION - 9), INK, -1)
    text = f"{length:g} um"
    (width, _), _ = cv2.getTextSize(text, FONT, 0.5, 1)
    cv2.putText(strip, text, (right - side - width - 6, CAPTION - 7), FONT, 0.5, INK, 1, cv2.LINE_AA)


def round_length(most: float) -> float:
    """The longest length of 1, 2 or 5 times a power of ten that is not above a given one.

    >>> round_length(73), round_length(0.3), round_length(10)
    (50.0, 0.2, 10.0)
    """
    power = 10.0 ** math.floor(math.log10(most))
    return max(float(f"{step * power:.1g}") for step in (1, 2, 5) if step * power <= most)


def _scale(height: int, width: int) -> tuple[int, int]:
    """Whole numbers by which a panel of that size grows, and by which it shrinks."""
    longest = max(height, width)
    return max(1, -(-SMALL // longest)), max(1, -(-longest // LARGE))


def _scale_picture(source: Image) -> Picture:
    height, width = source.shape[:2]
    up, down = _scale(height, width)
    size = (-(-width * up // down), -(-height * up // down))
    # Of a very large image a share of the pixels is enough, and all of them as floats more than the memory may hold.
    step = max(1, down // 2)
    method = cv2.INTER_AREA if down > 1 else cv2.INTER_CUBIC
    shown = source.overview if isinstance(source, LazyImage) else source[::step, ::step]
    return cv2.resize(display_image(shown), size, interpolation=method).astype(np.uint8)


def _scale_labels(labels: LabelImage) -> LabelImage:
    up, down = _scale(*labels.shape)
    return labels[::down, ::down].repeat(up, axis=0).repeat(up, axis=1)


def count_objects(labels: LabelImage) -> str:
    """Says how many objects a label image (H, W) of low ids holds.

    >>> count_objects(np.array([[0, 3, -1]]))
    '1 object'
    """
    number = np.count_nonzero(object_areas(labels))
    return f"{number:,} object{'' if number == 1 else 's'}"


def captioned(picture: Picture, text: str) -> Picture:
    """The picture below a line of text, uint8 (H + 24, W, 3)."""
    strip = np.full((CAPTION, picture.shape[1], 3), PAPER, np.uint8)
    cv2.putText(strip, text, (4, CAPTION - 7), FONT, 0.5, INK, 1, cv2.LINE_AA)
    return np.concatenate([strip, picture])
