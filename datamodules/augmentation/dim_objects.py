"""An augmentation for nuclei that are much dimmer than their neighbours."""

from typing import Any

import albumentations
import cv2
import numpy as np
from numpy.typing import NDArray

# How far an object's gain reaches beyond its annotation, px: outlines are drawn tight, and what light is left around a
# dimmed object would give it away.
REACH = 2


class DimObjects(albumentations.ImageOnlyTransform):  # type: ignore[misc]
    """Draws some objects towards the background's colour, each by a factor of its own.

    In one image a dividing or dead nucleus may be ten times as bright as the others; a network that has seen few such
    images takes the dim ones for background.

    Args:
        share: of the objects that are dimmed, drawn from this range.
        gain: what is left of an object's difference from the background, drawn from this range for each object.
        p: how often it happens.
    """

    def __init__(
        self, share: tuple[float, float] = (0.2, 0.9), gain: tuple[float, float] = (0.15, 0.8), p: float = 0.5
    ) -> None:
        super().__init__(p=p)
        self.share = share
        self.gain = gain

    @property
    def targets_as_params(self) -> list[str]:
        return ["image", "mask"]

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        ids, objects = np.unique(data["mask"], return_inverse=True)
        gains = np.ones(len(ids), np.float32)
        random = self.random_generator
        dimmed = (ids > 0) & (random.random(len(ids)) < random.uniform(*self.share))
        gains[dimmed] = random.uniform(*self.gain, dimmed.sum())
        gain = gains[objects].reshape(data["mask"].shape)
        gain = cv2.GaussianBlur(cv2.erode(gain, np.ones((2 * REACH + 1,) * 2, np.uint8)), (0, 0), REACH / 2)
        outside = data["mask"] == 0
        # A crop within one object has no background to draw it to.
        background = np.median(data["image"][outside], axis=0) if outside.any() else 0
        return {"gain": gain, "background": background}

    def apply(self, img: NDArray[Any], gain: NDArray[Any], background: Any, **params: Any) -> NDArray[Any]:
        gain = gain if img.ndim == 2 else gain[..., None]
        return (background + (img - background) * gain).astype(img.dtype)
