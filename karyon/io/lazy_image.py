"""Images of any size, of which regions are read when they are asked for, at one of several resolutions."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karyon.errors import DataError, naming

Pixels = NDArray[Any]
Region = tuple[slice, slice]
"""Rows and columns."""

LARGE = 2**27  # bytes; smaller images without further resolutions are read at once
OVERVIEW = 4096  # px
BAND = 2**24  # numbers that are read at once where every n-th is kept


def check_finite(pixels: Pixels) -> None:
    """Raises a `DataError` where values are complex, or not finite."""
    if pixels.dtype.kind == "c":
        raise DataError("the pixels are complex numbers: save their absolute values.")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise DataError(
            "the image holds values that are not finite (NaN or infinity): repair it, or take NaN for background "
            "(segment --nan background; nan_is_background of PercentileNormalize)."
        )


@dataclass(frozen=True)
class LazyImage:
    """An image that is sliced as an array of NumPy's is, and of which no more is read than that.

    Attributes:
        shape: (H, W) or (H, W, 3 RGB).
        dtype: of its pixels.
        read: reads a region within the image, (h, w) or (h, w, 3).
        name: of the image, for errors.
        coarser: the same image at lower resolutions, the finest first.
        nan: what stands for pixels that are not a number; None where they are refused.
        again: opens the image, in full resolution, in another process.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[Region], Pixels]
    name: str
    coarser: Sequence["LazyImage"] = ()
    nan: float | None = field(default=None)
    again: Callable[[], "Image"] | None = None

    def __reduce__(self) -> Any:
        return _opened, (self.again, self.shape, self.nan)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, region: Region) -> Pixels:
        (top, bottom, down), (left, right, across) = (
            part.indices(side) for part, side in zip(region, self.shape, strict=False)
        )
        if bottom <= top or right <= left:
            return np.empty((0, 0, *self.shape[2:]), self.dtype)
        if down == across == 1:
            return self._checked(self.read((slice(top, bottom), slice(left, right))))
        # Never more at once than a band of rows.
        band = max(1, BAND // (right - left) // math.prod(self.shape[2:]) // down) * down
        bands = (slice(start, min(start + band, bottom)) for start in range(top, bottom, band))
        return np.concatenate([self[rows, left:right][::down, ::across] for rows in bands])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Pixels:
        return np.asarray(self[:, :], dtype)

    @cached_property
    def overview(self) -> Pixels:
        """The whole image at 4,096 px at most: a lower resolution, or every n-th pixel."""
        images = [image for image in (self, *self.coarser) if max(image.shape[:2]) <= OVERVIEW]
        source = images[0] if images else (self, *self.coarser)[-1]
        step = -(-max(source.shape[:2]) // OVERVIEW)
        return source[::step, ::step]

    def factor(self, level: int) -> float:
        """How many times as large this image is as a resolution of it: 1 for level 0, itself."""
        return self.shape[0] / self.at(level).shape[0]

    def at(self, level: int) -> "LazyImage":
        """One of the resolutions of this image: 0 is itself."""
        if level == 0:
            return self
        return replace(self.coarser[level - 1], coarser=self.coarser[level:], nan=self.nan, again=self.again)

    def level_for(self, scale: float) -> int:
        """The coarsest resolution that is not coarser than needed to see the image so many times as large."""
        # Sides of resolutions are rounded.
        return max(k for k in range(len(self.coarser) + 1) if k == 0 or self.factor(k) * scale <= 1.01)

    def with_nan_filled(self) -> "LazyImage":
        """The same image, with the median in place of what is not a number."""
        if self.dtype.kind != "f":
            return self
        return replace(self, nan=float(np.nan_to_num(np.nanmedian(replace(self, nan=np.nan).overview))))

    def _checked(self, pixels: Pixels) -> Pixels:
        if self.dtype.kind != "f":
            return pixels
        if self.nan is not None:
            pixels = np.where(np.isnan(pixels), self.dtype.type(self.nan), pixels)
        else:
            with naming(self.name):
                check_finite(pixels)
        return pixels


Image = Pixels | LazyImage


def _opened(again: Callable[[], Image], shape: tuple[int, ...], nan: float | None) -> Image:
    """The image that was opened in another process, at the resolution that it had there."""
    image = again()
    assert isinstance(image, LazyImage)
    level = next(k for k in range(len(image.coarser) + 1) if image.at(k).shape == shape)
    return replace(image.at(level), nan=nan, again=again)


def overview(image: Image) -> Pixels:
    """What stands for an image where its statistics are looked up: itself, or of a lazy one the whole but smaller."""
    return image.overview if isinstance(image, LazyImage) else image


def assemble(out: Pixels, region: Region, side: tuple[int, int], part: Callable[[int, int], Pixels | None]) -> None:
    """Puts a region together from the parts that an image lies in.

    Args:
        out: (h, w) or (h, w, S), of the region's size; where there is no part it stays as it is.
        region: within the image.
        side: height and width of the parts, px.
        part: gives one by its row and column among them; those at the image's edges may be smaller.
    """
    rows, columns = region
    for y in range(rows.start // side[0], -(-rows.stop // side[0])):
        for x in range(columns.start // side[1], -(-columns.stop // side[1])):
            if (pixels := part(y, x)) is not None:
                top, left = y * side[0] - rows.start, x * side[1] - columns.start
                bottom, right = min(top + len(pixels), len(out)), min(left + pixels.shape[1], out.shape[1])
                above, before = max(-top, 0), max(-left, 0)
                if bottom > top + above and right > left + before:
                    part_of = pixels[above : bottom - top, before : right - left]
                    out[top + above : bottom, left + before : right] = part_of
