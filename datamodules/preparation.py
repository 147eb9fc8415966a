"""From an image and its label image to a sample: preprocessing, then augmentation of both, then new ids."""

from dataclasses import dataclass

import albumentations
import torch
from albumentations.augmentations.crops.transforms import CropSizeError

from datamodules.augmentation.pipeline import augment
from karyon.batch import Sample
from karyon.errors import DataError
from karyon.io.reading import check_size
from karyon.labels import LabelImage, relabel
from karyon.preprocessing import Image, Pixels, Preprocessing, resize_labels


@dataclass
class SamplePreparation:
    """Turns one image and its label image into a `Sample`.

    Attributes:
        preprocessing: pixels to the network's input, as at inference.
        augmentations: random transforms of Albumentations; only in training.
        min_area: slivers that a warp or a crop leaves below this are dropped, px.
        originals: whether samples carry the original pixels and annotation, which only evaluation needs.
    """

    preprocessing: Preprocessing
    augmentations: albumentations.Compose | None = None
    min_area: int = 1
    originals: bool = True

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width that every image is resized to, px; None where they keep their own."""
        return self.preprocessing.image_size

    def __call__(self, name: str, image_type: str, pixels: Pixels, labels: LabelImage | None) -> Sample:
        """Prepares one image.

        Args:
            name: identifier, for the sample and for errors.
            image_type: image type.
            pixels: (H, W) or (H, W, 3), any dtype.
            labels: (H, W) integers, or None.

        Raises:
            DataError: the label image has another size, the pixels cannot be normalised, or a crop is larger.
        """
        if labels is not None:
            check_size(name, pixels, labels)
        image, target = self.preprocessing(name, pixels), labels
        if target is not None and target.shape != image.shape[:2]:
            target = resize_labels(target, image.shape[:2])
        if self.augmentations:
            try:
                image, target = augment(self.augmentations, image, target)
            except CropSizeError:
                height, width = image.shape[:2]
                raise DataError(
                    f"{name} is {height} x {width} px, smaller than a crop of the augmentations: choose a smaller one, "
                    "or pad before it with albumentations.PadIfNeeded."
                ) from None
        warped = self.augmentations is not None
        if target is not None:
            target = relabel(target, self.min_area if warped else 1, split=warped)
        return Sample(
            name=name,
            image=to_tensor(image),
            size=pixels.shape[:2],
            labels=None if target is None else torch.from_numpy(target),
            image_type=image_type,
            source=pixels if self.originals else None,
            truth=torch.from_numpy(relabel(labels)) if self.originals and labels is not None else None,
        )


def to_tensor(image: Image) -> torch.Tensor:
    """Turns an image (H, W, C) into a tensor (C, H, W); grey that was repeated remains one plane in memory."""
    if image.strides[2] == 0:
        return torch.from_numpy(image[..., 0].copy()).expand(image.shape[2], -1, -1)
    return torch.from_numpy(image.transpose(2, 0, 1).copy())
