"""Where the tissue of a slide lies: what is empty glass need not be looked at."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from karyon.image_type import is_transmitted
from karyon.io.lazy_image import LazyImage, Pixels, Region

GLASS = 0.92  # share of the glass's light that what is not glass lets through at most, in any colour
MARGIN = 5  # px of the overview, around tissue
LEAST = 0.02  # share of tissue below which an image is looked at everywhere: a faint stain rather than glass


@dataclass(frozen=True)
class Tissue:
    """The part of a slide that is looked at.

    Attributes:
        mask: bool (h, w), of the overview; whatever the size of the image, it stands for all of it.
    """

    mask: NDArray[np.bool_]

    def touches(self, region: Region, size: tuple[int, int]) -> bool:
        """Whether there is tissue in a region of an image of that height and width."""
        rows, columns = (
            slice(part.start * length // side, -(-part.stop * length // side))
            for part, length, side in zip(region, self.mask.shape, size, strict=True)
        )
        return bool(self.mask[rows, columns].any())

    def densest(self, window: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
        """Upper left corner of the window of an image with the most tissue, all px."""
        sides = [max(1, w * length // side) for w, length, side in zip(window, self.mask.shape, size, strict=True)]
        share = cv2.blur(self.mask.astype(np.float32), sides[::-1], anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
        inside = share[: self.mask.shape[0] - sides[0] + 1, : self.mask.shape[1] - sides[1] + 1]
        corner = np.unravel_index(int(inside.argmax()), inside.shape)
        top, left = (
            min(int(at) * side // length, side - w)
            for at, side, length, w in zip(corner, size, self.mask.shape, window, strict=True)
        )
        return top, left


def find_tissue(image: LazyImage) -> Tissue | None:
    """The tissue of a slide in transmitted light; None of other images, which are looked at everywhere."""
    picture = image.overview
    if not is_transmitted(picture):
        return None
    mask = cv2.dilate(_stained(picture).astype(np.uint8), np.ones((2 * MARGIN + 1,) * 2, np.uint8)) > 0
    return Tissue(mask) if LEAST < mask.mean() < 1 else None


def _stained(picture: Pixels) -> NDArray[np.bool_]:
    """Where (H, W, 3) is not as bright as glass, in any colour."""
    smooth = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 1)
    glass = np.percentile(smooth.reshape(-1, 3), 99, axis=0)
    return (smooth < GLASS * glass).any(axis=2)


def looked_at(image: LazyImage, tissue: Tissue) -> Pixels:
    """A picture of a slide, uint8 (h, w, 3), in which what is not looked at is dark."""
    picture = image.overview
    bright = picture if picture.dtype == np.uint8 else (picture / max(picture.max(), 1) * 255).astype(np.uint8)
    return np.where(tissue.mask[..., None], bright, bright // 3)
