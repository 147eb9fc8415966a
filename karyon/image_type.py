"""Tells the image types of the Data Science Bowl apart by their pixels alone."""

import numpy as np

from karyon.io.reading import Pixels


def image_type(pixels: Pixels) -> str:
    """Names the modality or staining of an image.

    Grey images are split by their median: nuclei shine on black in fluorescence and are dark in bright-field. Colour
    images are split by whether any bright background is left: on the 120 colour images of DSB2018's stage 1, the 95th
    percentile of green lies between 155 and 175 where tissue and stain fill the image, above 195 elsewhere.

    Args:
        pixels: (H, W) or (H, W, 3 RGB), unsigned integers or floats in [0, 1].

    Returns:
        ``fluorescence``, ``brightfield``, ``purple-on-purple`` or ``purple-on-white``.

    >>> image_type(np.zeros((8, 8), np.uint8)), image_type(np.full((8, 8), 220, np.uint8))
    ('fluorescence', 'brightfield')
    """
    top = np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1.0
    if is_grey(pixels):
        return "brightfield" if np.median(pixels) > 0.4 * top else "fluorescence"
    return "purple-on-white" if np.percentile(pixels[..., 1], 95) > 0.725 * top else "purple-on-purple"


def is_grey(pixels: Pixels) -> bool:
    """Whether an image has one channel, or three equal ones."""
    return pixels.ndim == 2 or bool((pixels == pixels[..., :1]).all())


def is_transmitted(pixels: Pixels) -> bool:
    """Whether a colour image was taken in light that passes through, as of stained tissue.

    Next to no pixel of it is black, as the background of fluorescence is.

    >>> is_transmitted(np.full((8, 8, 3), (150, 90, 160), np.uint8)), is_transmitted(np.zeros((8, 8), np.uint8))
    (True, False)
    """
    if is_grey(pixels):
        return False
    value = pixels.max(axis=2)
    return bool((value < 0.15 * value.max()).mean() < 0.05)


def usually_inverted(image: Pixels) -> bool | None:
    """Whether an image is to be inverted, by what it is: stained tissue is; of others nothing is known."""
    return True if is_transmitted(image) else None
