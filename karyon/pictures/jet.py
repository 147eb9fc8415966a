"""Label images filled with the colours of the jet colour map, as the figure of Shihavuddin et al. 2018 has them."""

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
