"""Augmentations that imitate what goes wrong with serial sections: parts that are missing, and parts that slipped."""

from typing import Any

import albumentations
import numpy as np
from numpy.typing import NDArray


class MissingSection(albumentations.ImageOnlyTransform):  # type: ignore[misc]
    """Blackens a band across the image, as where a section is folded, torn or charged. The annotation stays.

    Args:
        thickness: the band's, drawn from this range, as a fraction of the image's height or width.
        p: how often it happens.

    Source: Lee et al. 2017, "Superhuman accuracy on the SNEMI3D connectomics challenge", section 3.
    """

    def __init__(self, thickness: tuple[float, float] = (0.02, 0.1), p: float = 0.5) -> None:
        super().__init__(p=p)
        self.thickness = thickness

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        axis = self.py_random.randint(0, 1)
        length = params["shape"][axis]
        thickness = round(self.py_random.uniform(*self.thickness) * length)
        start = self.py_random.randint(0, length - thickness)
        return {"axis": axis, "band": slice(start, start + thickness)}

    def apply(self, img: NDArray[Any], axis: int, band: slice, **params: Any) -> NDArray[Any]:
        img = img.copy()
        np.moveaxis(img, axis, 0)[band] = 0
        return img


class Misalignment(albumentations.DualTransform):  # type: ignore[misc]
    """Shifts everything on one side of a line along it, image and annotation alike; the edge is repeated.

    Args:
        shift: greatest shift, px.
        p: how often it happens.

    Source: Lee et al. 2017, "Superhuman accuracy on the SNEMI3D connectomics challenge", section 3.
    """

    def __init__(self, shift: int = 16, p: float = 0.5) -> None:
        super().__init__(p=p)
        self.shift = shift

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        axis = self.py_random.randint(0, 1)
        line = self.py_random.randint(1, params["shape"][axis] - 1)
        shift = self.py_random.choice([-1, 1]) * self.py_random.randint(1, self.shift)
        return {"axis": axis, "line": line, "shift": shift}

    def apply(self, img: NDArray[Any], axis: int, line: int, shift: int, **params: Any) -> NDArray[Any]:
        img = img.copy()
        beyond = np.moveaxis(img, axis, 0)[line:]
        length = beyond.shape[1]
        beyond[:] = beyond[:, np.clip(np.arange(length) - shift, 0, length - 1)]
        return img
