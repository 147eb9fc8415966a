"""Pictures of label images for people: instances in colour, beside the image they belong to."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from karyon.labels import LabelImage

Picture = NDArray[np.uint8]
"""(H, W, 3) RGB."""

# Matplotlib's jet, whose import would take longer than a picture, without its ends, which are nearly black.
RED = ((0, 0.35, 0.66, 0.89, 1), (0, 0, 1, 1, 0.5))
GREEN = ((0, 0.125, 0.375, 0.64, 0.91, 1), (0, 0, 1, 1, 0, 0))
BLUE = ((0, 0.11, 0.34, 0.65, 1), (0.5, 1, 1, 0, 0))
STEPS = np.floor(np.linspace(0.12, 0.92, 256) * 256) / 255
JET = (np.stack([np.interp(STEPS, *channel) for channel in (RED, GREEN, BLUE)], axis=1) * 255).astype(np.uint8)
GOLDEN_RATIO = (1 + 5**0.5) / 2
SMALL, LARGE = 512, 2048  # px; panels are enlarged up to the one and shrunk down to the other
GAP, CAPTION = 6, 24  # px
PAPER, INK, OUTLINE = (32, 32, 32), (225, 225, 225), (255, 255, 255)
UNKNOWN = (96, 96, 96)


def colour_instances(labels: LabelImage) -> Picture:
    """Paints each instance in a colour of its own from the jet colour map, on black.

    Successive ids lie a golden section of the colour map apart, so that the first k ids are spread evenly over it
    whatever k is.

    Args:
        labels: integers (H, W), 0 is background, -1 not annotated, which is grey.

    Returns:
        uint8 (H, W, 3) RGB; the colour of an id is the same in every image.

    Source: the figure of Shihavuddin et al. 2018

    >>> colour_instances(np.array([[0, 1, 2, -1]]))
    array([[[  0,   0,   0],
            [218, 255,  28],
            [  0, 184, 255],
            [ 96,  96,  96]]], dtype=uint8)
    """
    ids = np.arange(1, int(labels.max()) + 1)
    colours = np.zeros((len(ids) + 2, 3), np.uint8)
    colours[1:-1] = JET[(ids * GOLDEN_RATIO % 1 * len(JET)).astype(int)]
    colours[-1] = UNKNOWN
    return colours[labels]


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


def side_by_side(source: NDArray[Any], pred_labels: LabelImage, truth_labels: LabelImage | None = None) -> Picture:
    """Lays out input, truth (where there is one) and result from left to right, each with a caption above.

    Captions count the objects. Where objects touch, a black line parts them. The truth's outlines are drawn in white
    over the result. Small images are enlarged to at least 512 px, by a whole number, so that single pixels can be seen;
    large ones are shrunk to at most 2,048 px.

    Args:
        source: original pixels, (H, W) or (H, W, 3 RGB), any type.
        pred_labels: integers (H, W), 0 is background.
        truth_labels: the same for the annotation.

    Returns:
        uint8 (H', W', 3) RGB.
    """
    panels = [_captioned(_scale_picture(source), "input")]
    result = _scale_labels(pred_labels)
    picture = paint_instances(result)
    if truth_labels is not None:
        truth = _scale_labels(truth_labels)
        panels.append(_captioned(paint_instances(truth), f"truth: {count_objects(truth_labels)}"))
        picture[_rim(truth)] = OUTLINE
    panels.append(_captioned(picture, f"result: {count_objects(pred_labels)}"))
    gap = np.full((len(panels[0]), GAP, 3), PAPER, np.uint8)
    return np.concatenate([part for panel in panels for part in (gap, panel)][1:], axis=1)


def _rim(labels: LabelImage) -> NDArray[np.bool_]:
    """The pixels of objects that have a pixel above, below or beside them that is not the object's."""
    framed = np.pad(labels, 1, mode="edge")
    neighbours = (framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:])
    differs = np.logical_or.reduce([neighbour != labels for neighbour in neighbours])
    return differs & (labels > 0)


def _scale(height: int, width: int) -> tuple[int, int]:
    """Whole numbers by which a panel of that size grows, and by which it shrinks."""
    longest = max(height, width)
    return max(1, -(-SMALL // longest)), max(1, -(-longest // LARGE))


def _scale_picture(source: NDArray[Any]) -> Picture:
    height, width = source.shape[:2]
    up, down = _scale(height, width)
    size = (-(-width * up // down), -(-height * up // down))
    # Of a very large image a share of the pixels is enough, and all of them as floats more than the memory may hold.
    step = max(1, down // 2)
    method = cv2.INTER_AREA if down > 1 else cv2.INTER_CUBIC
    return cv2.resize(display_image(source[::step, ::step]), size, interpolation=method).astype(np.uint8)


def _scale_labels(labels: LabelImage) -> LabelImage:
    up, down = _scale(*labels.shape)
    return labels[::down, ::down].repeat(up, axis=0).repeat(up, axis=1)


def touching(labels: LabelImage) -> NDArray[np.bool_]:
    """Where an object begins beside or below another one, bool (H, W): a line of one px that parts the two.

    >>> touching(np.array([[1, 1, 2, 0, 3]]))
    array([[False, False,  True, False, False]])
    """
    line = np.zeros(labels.shape, bool)
    for here, there, part in ((labels[1:], labels[:-1], line[1:]), (labels[:, 1:], labels[:, :-1], line[:, 1:])):
        part |= (here != there) & (here > 0) & (there > 0)
    return line


def paint_instances(labels: LabelImage) -> Picture:
    """Paints each instance in a colour of its own, with a black line where two touch; see `colour_instances`."""
    picture = colour_instances(labels)
    picture[touching(labels)] = 0
    return picture


def count_objects(labels: LabelImage) -> str:
    """Says how many objects a label image (H, W) of low ids holds.

    >>> count_objects(np.array([[0, 3, -1]]))
    '1 object'
    """
    number = np.count_nonzero(np.bincount(np.maximum(labels, 0).ravel())[1:])
    return f"{number:,} object{'' if number == 1 else 's'}"


def _captioned(picture: Picture, text: str) -> Picture:
    strip = np.full((CAPTION, picture.shape[1], 3), PAPER, np.uint8)
    cv2.putText(strip, text, (4, CAPTION - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.5, INK, 1, cv2.LINE_AA)
    return np.concatenate([strip, picture])
