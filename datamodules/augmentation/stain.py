"""An augmentation for stained tissue: other stains, paler or stronger, as if another laboratory had prepared it."""

from typing import Any

import albumentations
import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb_from_hed

FAINTEST = 1 / 255  # of the light that is let through, so that its logarithm is finite
GREY = 0.02  # mean spread between the channels, below which an image has no stain
STAINS = rgb_from_hed / np.linalg.norm(rgb_from_hed, axis=1, keepdims=True)
"""Unit vectors of haematoxylin, eosin and a rest: what each absorbs of red, green and blue."""


class StainVariation(albumentations.ImageOnlyTransform):  # type: ignore[misc]
    """Separates an RGB image into haematoxylin, eosin and a rest, and changes each stain's colour and amount.

    What light a stain absorbs (its optical density) is linear in its amount, so a change of stain vectors keeps the
    tissue's structure where a change of hue does not. Grey images are left as they are.

    Args:
        colour: standard deviation of the change of each entry of the stain vectors.
        amount: factor of each stain's amount, drawn from this range.
        shift: added to the amounts of haematoxylin and eosin, drawn from plus or minus this.
        p: how often it happens.

    Source: Tellez et al. 2018, "Whole-slide mitosis detection in H&E breast histology using PHH3 as a reference";
        stain vectors of Ruifrok & Johnston 2001, as in scikit-image.
    """

    def __init__(
        self, colour: float = 0.06, amount: tuple[float, float] = (0.6, 1.5), shift: float = 0.05, p: float = 0.5
    ) -> None:
        super().__init__(p=p)
        self.colour, self.amount, self.shift = colour, amount, shift

    def get_params(self) -> dict[str, Any]:
        random = self.random_generator
        vectors = np.abs(STAINS + random.normal(0, self.colour, (3, 3)))
        return {
            "vectors": vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
            "factors": random.uniform(*self.amount, 3),
            "shifts": random.uniform(-self.shift, self.shift, 3) * [1, 1, 0],
        }

    def apply(
        self,
        img: NDArray[Any],
        vectors: NDArray[np.float64],
        factors: NDArray[np.float64],
        shifts: NDArray[np.float64],
        **params: Any,
    ) -> NDArray[Any]:
        """Changes the stains of a float image (H, W, 3) in [0, 1]; others come back as they are."""
        if img.ndim != 3 or img.shape[2] != 3 or np.ptp(img, axis=2).mean() < GREY:
            return img
        density = -np.log(np.clip(img, FAINTEST, 1))
        amounts = density @ np.linalg.inv(STAINS) * factors + shifts
        return np.exp(-np.maximum(amounts @ vectors, 0)).astype(img.dtype)
