"""Chains of Albumentations' transforms that warp an image and its label image together."""

from collections.abc import Sequence

import albumentations
import numpy as np

from karyon.labels import LabelImage
from karyon.preprocessing import Image, exact


def compose(augmentations: Sequence[albumentations.BasicTransform]) -> albumentations.Compose | None:
    """Chains augmentations; None for an empty list."""
    return albumentations.Compose(list(augmentations)) if augmentations else None


def augment(
    augmentations: albumentations.Compose, image: Image, labels: LabelImage | None
) -> tuple[Image, LabelImage | None]:
    """Warps image and label image together."""
    image = np.ascontiguousarray(image)
    if labels is None:
        return augmentations(image=image)["image"], None
    warped = augmentations(image=image, mask=exact(labels))
    image = warped["image"]
    return image if image.ndim == 3 else image[..., None], warped["mask"].astype(np.int32)
