"""Image types."""

import numpy as np
import pytest

from karyon.image_type import image_type, is_grey


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_image_types(dtype: type) -> None:
    top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1

    def image(*colour: float) -> np.ndarray:
        return (np.ones((8, 8, len(colour))) * colour * top).astype(dtype)

    assert image_type(image(0.1, 0.1, 0.1)) == image_type(image(0.1)[..., 0]) == "fluorescence"
    assert image_type(image(0.8, 0.8, 0.8)) == image_type(image(0.8)[..., 0]) == "brightfield"
    assert image_type(image(0.7, 0.5, 0.7)) == "purple-on-purple"
    white = image(0.7, 0.5, 0.7)
    white[:2] = top
    assert image_type(white) == "purple-on-white" and not is_grey(white)
