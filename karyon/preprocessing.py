"""From original pixels to the network's input: polarity and contrast, channels, size."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from karyon.errors import DataError, naming
from karyon.io import lazy_image
from karyon.io.lazy_image import Region as Region
from karyon.io.lazy_image import check_finite
from karyon.io.pages import Pixels as Pixels
from karyon.io.pages import nan_filled
from karyon.labels import LabelImage

Image = NDArray[np.float32]
Normalization = Callable[[Pixels], Image]
Background = Literal["auto", "dark", "bright"]

STRIP = 2**22  # numbers


class ScaleToUnit:
    """Divides integers by the greatest value of their type (255 for 8 bit); floats must lie in [0, 1] already."""

    def __call__(self, pixels: Pixels) -> Image:
        if np.issubdtype(pixels.dtype, np.integer):
            return (pixels / np.float32(np.iinfo(pixels.dtype).max)).astype(np.float32)
        check_finite(pixels)
        if pixels.min() < 0 or pixels.max() > 1:
            raise DataError(
                f"float pixels from {pixels.min():g} to {pixels.max():g} are outside [0, 1]: use the normalisation "
                "karyon.preprocessing.PercentileNormalize."
            )
        return pixels.astype(np.float32)


@dataclass
class PercentileNormalize:
    """Maps two percentiles of each image to 0 and 1, whatever the bit depth; values beyond them are clipped.

    Attributes:
        low, high: percentiles, over all channels together so that colours keep their hue.
        dark_background: whether an image that is bright for the most part, as stained tissue and bright-field are, is
            inverted, so that objects are brighter than what surrounds them in every modality. Right for 669 of the 670
            training images of DSB2018; wrong where objects cover more than half of an image. `segment` does not rely on
            it: of models that were trained so, it takes the look that is surer.
        nan_is_background: whether pixels that are not a number (NaN), as beyond the edge of a stitched or registered
            image, are background; without it, such images are refused.
    """

    low: float = 1.0
    high: float = 99.8
    dark_background: bool = False
    nan_is_background: bool = False

    def __call__(self, pixels: Pixels) -> Image:
        return self.fit(pixels)(pixels)

    def fit(self, pixels: Pixels, background: Background = "auto") -> "Stretch":
        """Looks at a whole image, of which parts are to be normalised.

        Args:
            pixels: (H, W) or (H, W, 3), any dtype.
            background: of the image, where it is known; auto decides by the image's median. Where bright images are
                not inverted, it changes nothing.
        """
        if self.nan_is_background:
            pixels = nan_filled(pixels)
        check_finite(pixels)
        # Between truth values lie no percentiles.
        values = pixels.astype(np.uint8) if pixels.dtype == bool else pixels
        low, high = np.percentile(values, [self.low, self.high])
        # A constant image has no contrast to stretch: all zero.
        stretch = Stretch(low, (high - low) or 1.0, nan=np.median(values) if self.nan_is_background else None)
        if not self.dark_background:
            return stretch
        if background == "auto":
            bright = bool(np.median(_brightness(stretch, pixels), overwrite_input=True) > 0.5)
        else:
            bright = background == "bright"
        return replace(stretch, inverted=bright)


@dataclass
class Stretch:
    """Maps an intensity to 0, and the one that lies a span above it to 1; values beyond them are clipped.

    Attributes:
        low: the first intensity.
        span: of intensities.
        inverted: whether 1 becomes 0 and 0 becomes 1 in the end.
        nan: what stands for what is not a number.
    """

    low: float
    span: float
    inverted: bool = False
    nan: float | None = None

    def __call__(self, pixels: Pixels) -> Image:
        # In place, since an image may be large; single precision is exact for integers of 16 bit.
        image = pixels.astype(np.result_type(pixels.dtype, np.float32))
        if self.nan is not None:
            image[np.isnan(image)] = self.nan
        image -= self.low
        image /= self.span
        image = np.clip(image, 0, 1, out=image).astype(np.float32, copy=False)
        return np.subtract(1, image, out=image) if self.inverted else image


def _brightness(normalization: Normalization, pixels: Pixels) -> Image:
    """The mean of the normalised channels (H, W), made row by row, since an image may be large."""
    brightness = np.empty(pixels.shape[:2], np.float32)
    step = max(1, STRIP // math.prod(pixels.shape[1:]))
    for row in range(0, len(pixels), step):
        part = normalization(pixels[row : row + step])
        brightness[row : row + step] = part if part.ndim == 2 else part.mean(2)
    return brightness


def to_channels(image: Image, channels: int) -> Image:
    """Makes a grey or RGB image have 1 or 3 channels: (H, W) or (H, W, 3) to (H, W, ``channels``).

    Grey is repeated without being copied.
    """
    if image.ndim == 3:
        return image if channels == 3 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)[..., None]
    return np.broadcast_to(image[..., None], (*image.shape, channels))


def resize(image: Image, size: tuple[int, int]) -> Image:
    """Resizes an image (h, w, C) to (H, W, C): by area averaging where it shrinks, linearly where it grows."""
    height, width = size
    shrinks = height * width < image.shape[0] * image.shape[1]
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    # OpenCV drops the axis of a single channel.
    return np.asarray(resized, np.float32).reshape(height, width, -1)


def resize_labels(labels: LabelImage, size: tuple[int, int]) -> LabelImage:
    """Resizes a label image to the nearest pixel, int32 (H, W)."""
    return cv2.resize(exact(labels), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT).astype(np.int32)


def exact(labels: LabelImage) -> NDArray[Any]:
    """A label image in a type that OpenCV warps without loss: uint16, or float32 (exact up to 16.7 million)."""
    short = labels.min(initial=0) >= 0 and labels.max(initial=0) < 2**16
    return labels.astype(np.uint16 if short else np.float32)


@dataclass
class Preprocessing:
    """Turns an image's pixels into the network's input; the same for training and for every prediction.

    Attributes:
        channels: of the network's input, 1 or 3.
        normalization: pixels of any dtype to float32, about [0, 1].
        image_size: height and width to resize to, px; None keeps each image's own.
    """

    channels: int
    normalization: Normalization
    image_size: tuple[int, int] | None = None

    def __call__(self, name: str, pixels: Pixels) -> Image:
        """Prepares one image, (H, W, C).

        Args:
            name: of the image, for errors.
            pixels: (H, W) or (H, W, 3), any dtype.

        Raises:
            DataError: the pixels cannot be normalised.
        """
        with naming(name):
            image = to_channels(self.normalization(pixels), self.channels)
        return resize(image, self.image_size) if self.image_size and self.image_size != image.shape[:2] else image

    @property
    def wants_dark(self) -> bool:
        """Whether images on a bright background are to be inverted."""
        return isinstance(self.normalization, PercentileNormalize) and self.normalization.dark_background

    def parts(
        self,
        name: str,
        pixels: lazy_image.Image,
        background: Background = "auto",
        shown: Pixels | None = None,
    ) -> "Parts":
        """Prepares an image part by part, so that a large one need not be in memory as floats, too.

        Args:
            name: of the image, for errors.
            pixels: (H, W) or (H, W, 3), any dtype.
            background: see `PercentileNormalize.fit`.
            shown: pixels of the image by which contrast is chosen; by default all, or its overview.

        Raises:
            DataError: the pixels cannot be normalised.
        """
        with naming(name):
            normalization = self.normalization
            if isinstance(normalization, PercentileNormalize):
                normalization = normalization.fit(lazy_image.overview(pixels) if shown is None else shown, background)
        return Parts(name, pixels, replace(self, normalization=normalization))


@dataclass(frozen=True)
class Parts:
    """An image of which regions are prepared when they are asked for.

    Attributes:
        name: of the image, for errors.
        pixels: (H, W) or (H, W, 3), any dtype.
        preprocessing: what depends on the whole image has been looked up.
    """

    name: str
    pixels: lazy_image.Image
    preprocessing: Preprocessing

    @property
    def inverted(self) -> bool:
        """Whether the image is bright for the most part and is inverted."""
        return getattr(self.preprocessing.normalization, "inverted", False)

    def __call__(self, region: Region = (slice(None), slice(None))) -> Image:
        """A region of the network's input, (C, h, w), contiguous; of an image that is resized, the whole."""
        return to_planes(self.preprocessing(self.name, self.pixels[region]))


def to_planes(image: Image) -> Image:
    """An image (H, W, C) as planes (C, H, W); grey that `to_channels` repeated remains one plane in memory."""
    if image.strides[2] == 0:
        return np.broadcast_to(np.ascontiguousarray(image[..., 0]), (image.shape[2], *image.shape[:2]))
    return np.ascontiguousarray(image.transpose(2, 0, 1))
