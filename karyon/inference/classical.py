"""The baseline without learning: Otsu's threshold, the distance transform and a watershed, all of scikit-image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karyon.errors import naming
from karyon.image_type import is_grey
from karyon.instances import Instances
from karyon.io.lazy_image import check_finite
from karyon.preprocessing import Pixels

SMALLEST = 0.2  # of the typical diameter: what is smaller is noise


@dataclass(frozen=True)
class Classical:
    """Finds nuclei by brightness alone, or in stained tissue by the haematoxylin.

    Attributes:
        diameter: typical diameter of the objects, px: how far their centres lie apart at least is half of it.
    """

    diameter: float

    def segment(self, image: Pixels, name: str = "image") -> Instances:
        """Finds the objects of an image.

        Args:
            image: (H, W), of bright objects, or (H, W, 3 RGB), any dtype.
            name: of the image, for errors.

        Raises:
            DataError: the pixels are not finite.

        Source: Otsu 1979, https://doi.org/10.1109/TSMC.1979.4310076; Ruifrok and Johnston 2001 for the haematoxylin.
        """
        from scipy.ndimage import distance_transform_edt
        from skimage.feature import peak_local_max
        from skimage.filters import gaussian, threshold_otsu
        from skimage.morphology import remove_small_objects
        from skimage.segmentation import watershed

        density = gaussian(_density(image, name), 1)
        if density.min() == density.max():
            return Instances.from_labels(np.zeros(density.shape, np.int32))
        smallest = round(np.pi / 4 * (SMALLEST * self.diameter) ** 2)
        mask = remove_small_objects(density > threshold_otsu(density), max_size=smallest)
        # Smoothed, or every bump of an outline were a centre.
        distance = gaussian(distance_transform_edt(mask), self.diameter / 12)
        peaks = peak_local_max(distance, min_distance=max(1, round(self.diameter / 2)), labels=mask.astype(int))
        seeds = np.zeros(mask.shape, np.int32)
        seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        return Instances.from_labels(watershed(-distance, seeds, mask=mask).astype(np.int32))


def _density(image: Pixels, name: str) -> NDArray[np.floating]:
    """What is great where nuclei are, (H, W)."""
    with naming(name):
        check_finite(image)
    if is_grey(image):
        return (image if image.ndim == 2 else image[..., 0]).astype(np.float64)
    from skimage.color import rgb2hed

    return rgb2hed(image)[..., 0]
