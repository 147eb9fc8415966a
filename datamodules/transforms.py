"""From original pixels to the network's input: channels, normalisation, size and augmentation, in this order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import albumentations
import cv2
import numpy as np
import torch
from albumentations.augmentations.crops.transforms import CropSizeError
from numpy.typing import NDArray

from datamodules.reading import Pixels, check_size
from datamodules.sample import DataError, LabelImage, Sample, relabel

Image = NDArray[np.float32]
Normalization = Callable[[Pixels], Image]


class ScaleToUnit:
    """Divides integers by the greatest value of their type (255 for 8 bit); floats must lie in [0, 1] already."""

    def __call__(self, pixels: Pixels) -> Image:
        if np.issubdtype(pixels.dtype, np.integer):
            return (pixels / np.float32(np.iinfo(pixels.dtype).max)).astype(np.float32)
        _check_finite(pixels)
        if pixels.min() < 0 or pixels.max() > 1:
            raise DataError(
                f"float pixels from {pixels.min():g} to {pixels.max():g} are outside [0, 1]: use the normalisation "
                "datamodules.transforms.PercentileNormalize."
            )
        return pixels.astype(np.float32)


@dataclass
class PercentileNormalize:
    """Maps two percentiles of each image to 0 and 1, whatever the bit depth; values beyond them are clipped.

    Attributes:
        low, high: percentiles, over all channels together so that colours keep their hue.
        dark_background: whether an image that is bright for the most part, as stained tissue and bright-field are, is
            inverted, so that objects are brighter than what surrounds them in every modality. Right for 669 of the 670
            training images of DSB2018.
    """

    low: float = 1.0
    high: float = 99.8
    dark_background: bool = False

    def __call__(self, pixels: Pixels) -> Image:
        _check_finite(pixels)
        low, high = np.percentile(pixels, [self.low, self.high])
        # In place, since an image may be large; single precision is exact for integers of 16 bit.
        image = pixels.astype(np.result_type(pixels.dtype, np.float32))
        image -= low
        # A constant image has no contrast to stretch: all zero.
        image /= (high - low) or 1.0
        image = np.clip(image, 0, 1, out=image).astype(np.float32, copy=False)
        bright = self.dark_background and np.median(image if image.ndim == 2 else image.mean(2)) > 0.5
        return np.subtract(1, image, out=image) if bright else image


def _check_finite(pixels: Pixels) -> None:
    if not np.isfinite(pixels).all():
        raise DataError("the image holds values that are not finite (NaN or infinity): repair or remove it.")


def to_channels(image: Image, channels: int) -> Image:
    """Makes a grey or RGB image have 1 or 3 channels: (H, W) or (H, W, 3) to (H, W, ``channels``).

    Grey is repeated without being copied.
    """
    if image.ndim == 3:
        return image if channels == 3 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)[..., None]
    return np.broadcast_to(image[..., None], (*image.shape, channels))


@dataclass
class Preparation:
    """Turns one image and its label image into a `Sample`.

    Attributes:
        channels: of the network's input, 1 or 3.
        normalization: pixels of any dtype to float32, about [0, 1].
        image_size: height and width to resize to, px; None keeps each image's own.
        augmentations: random transforms of Albumentations; only in training.
        min_area: slivers that a warp or a crop leaves below this are dropped, px.
        originals: whether samples carry the original pixels and annotation, which only evaluation needs.
    """

    channels: int
    normalization: Normalization
    image_size: tuple[int, int] | None
    augmentations: albumentations.Compose | None = None
    min_area: int = 1
    originals: bool = True

    def __call__(self, name: str, kind: str, pixels: Pixels, labels: LabelImage | None) -> Sample:
        """Prepares one image.

        Args:
            name: identifier, for the sample and for errors.
            kind: image type.
            pixels: (H, W) or (H, W, 3), any dtype.
            labels: (H, W) integers, or None.

        Raises:
            DataError: the label image has another size, the pixels cannot be normalised, or a crop is larger.
        """
        if labels is not None:
            check_size(name, pixels, labels)
        try:
            image = to_channels(self.normalization(pixels), self.channels)
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
        target = labels
        if self.image_size and self.image_size != image.shape[:2]:
            image, target = resize(image, target, self.image_size)
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
            kind=kind,
            source=pixels if self.originals else None,
            truth=torch.from_numpy(relabel(labels)) if self.originals and labels is not None else None,
        )


def to_tensor(image: Image) -> torch.Tensor:
    """Turns an image (H, W, C) into a tensor (C, H, W); grey that `to_channels` repeated remains one plane."""
    if image.strides[2] == 0:
        return torch.from_numpy(np.array(image[..., 0])).expand(image.shape[2], -1, -1)
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def resize(image: Image, labels: LabelImage | None, size: tuple[int, int]) -> tuple[Image, LabelImage | None]:
    """Resizes an image by area averaging (linear where it grows) and its label image to the nearest pixel."""
    height, width = size
    shrinks = height * width < image.shape[0] * image.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    image = np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.float32)
    if labels is not None:
        labels = cv2.resize(exact(labels), (width, height), interpolation=cv2.INTER_NEAREST_EXACT).astype(np.int32)
    # OpenCV drops the axis of a single channel.
    return image.reshape(height, width, -1), labels


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


def exact(labels: LabelImage) -> NDArray[Any]:
    """A label image in a type that OpenCV warps without loss: uint16, or float32 (exact up to 16.7 million)."""
    return labels.astype(np.uint16 if labels.max(initial=0) < 2**16 else np.float32)


def compose(augmentations: Sequence[albumentations.BasicTransform]) -> albumentations.Compose | None:
    """Chains augmentations; None for an empty list."""
    return albumentations.Compose(list(augmentations)) if augmentations else None
