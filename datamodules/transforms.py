"""From original pixels to the network's input: channels, normalisation, size and augmentation, in this order."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
Region = tuple[slice, slice]
"""Rows and columns."""

STRIP = 2**22  # numbers


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
        return self.fit(pixels)(pixels)

    def fit(self, pixels: Pixels) -> "Stretch":
        """Looks at a whole image, of which parts are to be normalised."""
        _check_finite(pixels)
        # Between truth values lie no percentiles.
        values = pixels.astype(np.uint8) if pixels.dtype == bool else pixels
        low, high = np.percentile(values, [self.low, self.high])
        # A constant image has no contrast to stretch: all zero.
        stretch = Stretch(low, (high - low) or 1.0)
        bright = self.dark_background and np.median(_brightness(stretch, pixels), overwrite_input=True) > 0.5
        return replace(stretch, inverted=bool(bright))


@dataclass
class Stretch:
    """Maps an intensity to 0, and the one that lies a span above it to 1; values beyond them are clipped.

    Attributes:
        low: the first intensity.
        span: of intensities.
        inverted: whether 1 becomes 0 and 0 becomes 1 in the end.
    """

    low: float
    span: float
    inverted: bool = False

    def __call__(self, pixels: Pixels) -> Image:
        # In place, since an image may be large; single precision is exact for integers of 16 bit.
        image = pixels.astype(np.result_type(pixels.dtype, np.float32))
        image -= self.low
        image /= self.span
        image = np.clip(image, 0, 1, out=image).astype(np.float32, copy=False)
        return np.subtract(1, image, out=image) if self.inverted else image


def fit(normalization: Normalization, pixels: Pixels) -> Normalization:
    """A normalisation for the parts of an image: what depends on the whole of it is looked up now."""
    return normalization.fit(pixels) if isinstance(normalization, PercentileNormalize) else normalization


def _brightness(normalization: Normalization, pixels: Pixels) -> Image:
    """The mean of the normalised channels (H, W), made row by row, since an image may be large."""
    brightness = np.empty(pixels.shape[:2], np.float32)
    step = max(1, STRIP // math.prod(pixels.shape[1:]))
    for row in range(0, len(pixels), step):
        part = normalization(pixels[row : row + step])
        brightness[row : row + step] = part if part.ndim == 2 else part.mean(2)
    return brightness


def _check_finite(pixels: Pixels) -> None:
    if pixels.dtype.kind == "c":
        raise DataError("the pixels are complex numbers: save their absolute values.")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
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
        with _naming(name):
            image = to_channels(self.normalization(pixels), self.channels)
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

    def parts(self, name: str, pixels: Pixels) -> Callable[[Region], torch.Tensor]:
        """Prepares an image part by part, so that a large one need not be in memory as floats, too.

        Args:
            name: of the image, for errors.
            pixels: (H, W) or (H, W, 3), any dtype.

        Returns:
            gives a region of the network's input, float32 (C, h, w).

        Raises:
            DataError: the pixels cannot be normalised.
        """
        if self.image_size:
            whole = self(name, "", pixels, None).image
            return lambda region: whole[(..., *region)]
        with _naming(name):
            normalization = fit(self.normalization, pixels)

        def part(region: Region) -> torch.Tensor:
            with _naming(name):
                return to_tensor(to_channels(normalization(pixels[region]), self.channels))

        return part


@contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise DataError(f"{name}: {error}") from None


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
