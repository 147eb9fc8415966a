"""What is to be known of each image of a data set before it is trained on: small, whatever the size of the image."""

import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as connected_components

from karyon.errors import DataError
from karyon.image_type import is_grey
from karyon.io.reading import Pixels
from karyon.labels import LabelImage, relabel
from karyon.layouts.protocol import Item
from karyon.preprocessing import Normalization

PATTERN = 32  # px


@dataclass(frozen=True)
class Refusal:
    """Why an image cannot be trained on.

    Attributes:
        sentence: that training would end with.
        cause: the line of code that says it; refusals of one cause are of one kind.
    """

    sentence: str
    cause: str


@dataclass(frozen=True, eq=False)
class Objects:
    """The N objects of a label image.

    Attributes:
        ids: int64 (N,), as they stand in the label image.
        areas: int64 (N,), px.
        sides: int64 (N, 2), height and width of the box, px.
        pieces: int64 (N,), number of 8-connected regions that share the id.
        cut: bool (N,), whether it touches the image's border.
    """

    ids: NDArray[np.int64]
    areas: NDArray[np.int64]
    sides: NDArray[np.int64]
    pieces: NDArray[np.int64]
    cut: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Facts:
    """What is known of one image.

    Attributes:
        part: of the split, such as ``train``.
        image, labels: what to call the image and its label image in a report: files, where it has files of its own.
        refusal: why it cannot be used; what follows may be missing then.
        size: height and width, px.
        channels: 1 for grey, also where it is stored as three equal channels, else 3.
        dtype: of the pixels.
        constant: whether all pixels are equal.
        pattern: float32 (32, 32), the image's light and dark at a glance; None where it is not finite.
        labels_size: height and width of the label image, px; None where nothing is annotated.
        unknown: share of its pixels that are -1, which stands for not annotated.
        objects: None where nothing is annotated.
    """

    part: str
    image: str
    labels: str
    refusal: Refusal | None = None
    size: tuple[int, int] = (0, 0)
    channels: int = 0
    dtype: str = ""
    constant: bool = False
    pattern: NDArray[np.float32] | None = None
    labels_size: tuple[int, int] | None = None
    unknown: float = 0.0
    objects: Objects | None = None


def survey(parts: Mapping[str, Sequence[Item]], normalization: Normalization) -> Iterator[Facts]:
    """Looks at every image of a data set once, on all cores, in order.

    Args:
        parts: the images of each part of the split.
        normalization: that training applies; it may refuse an image.
    """
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for part, items in parts.items():
            yield from pool.map(examine, repeat(part), items, repeat(normalization))
    finally:
        # After Ctrl-C the images still waiting are not read.
        pool.shutdown(cancel_futures=True)


def examine(part: str, item: Item, normalization: Normalization) -> Facts:
    """Looks at one image."""
    files = [str(path) for path in item.files] or [item.name]
    try:
        pixels, labels = item.read()
    except DataError as error:
        return Facts(part, files[0], files[-1], _refusal(str(error), error))
    refusal = None
    try:
        normalization(pixels)
    except DataError as error:
        refusal = _refusal(f"{files[0]}: {error}", error)
    return Facts(
        part=part,
        image=files[0],
        labels=files[-1],
        refusal=refusal,
        size=pixels.shape[:2],
        channels=1 if is_grey(pixels) else 3,
        dtype=str(pixels.dtype),
        constant=bool(pixels.min() == pixels.max()),
        pattern=pattern(pixels),
        labels_size=None if labels is None else labels.shape,
        unknown=0.0 if labels is None else float((labels < 0).mean()),
        objects=None if labels is None else measure_objects(np.maximum(labels, 0)),
    )


def _refusal(sentence: str, error: DataError) -> Refusal:
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    return Refusal(sentence, f"{frame.f_code.co_filename}:{line}")


def pattern(pixels: Pixels) -> NDArray[np.float32] | None:
    """An image's light and dark at a glance, by which it is known again in another format, bit depth or contrast.

    Args:
        pixels: (H, W) or (H, W, 3), any dtype.

    Returns:
        float32 (32, 32): means over tiles less their surroundings, so that uneven illumination, which all images of a
        microscope share, does not count. Between different images of DSB2018 they correlate below .5, between an image
        and its JPEG of quality 50 above .96. None where a pixel is not finite.
    """
    tiles = cv2.resize(pixels.astype(np.float32), (PATTERN, PATTERN), interpolation=cv2.INTER_AREA)
    tiles = tiles.reshape(PATTERN, PATTERN, -1).mean(axis=2)
    # Tiles tell: one value that is not finite spoils the mean of its tile.
    return tiles - cv2.blur(tiles, (5, 5), borderType=cv2.BORDER_REFLECT) if np.isfinite(tiles).all() else None


def measure_objects(labels: LabelImage) -> Objects:
    """Measures the objects of a label image.

    Args:
        labels: (H, W) integers, 0 is background.

    >>> objects = measure_objects(np.array([[7, 0, 3, 3], [0, 0, 3, 0], [7, 0, 0, 0]]))
    >>> objects.ids, objects.areas, objects.pieces
    (array([3, 7]), array([3, 2]), array([1, 2]))
    >>> objects.sides.tolist()
    [[2, 2], [3, 1]]
    """
    numbers = relabel(labels)
    regions = connected_components(numbers, background=0, connectivity=2)
    number = int(numbers.max(initial=0))
    ids, cut = np.zeros(number + 1, np.int64), np.zeros(number + 1, bool)
    # All pixels of an object write the same: the last one stays.
    ids[numbers.ravel()] = labels.ravel()
    for edge in (numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]):
        cut[edge] = True
    owners = np.zeros(int(regions.max(initial=0)) + 1, np.int64)
    owners[regions.ravel()] = numbers.ravel()
    boxes = ndimage.find_objects(numbers.astype(np.int32))
    sides = [(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in boxes]
    return Objects(
        ids=ids[1:],
        areas=np.bincount(numbers.ravel(), minlength=number + 1)[1:],
        sides=np.array(sides, np.int64).reshape(-1, 2),
        pieces=np.bincount(owners[1:], minlength=number + 1)[1:],
        cut=cut[1:],
    )
