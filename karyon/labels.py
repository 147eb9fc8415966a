"""Label images: 0 is background, each object a number, -1 not annotated; renumbering and run lengths."""

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karyon.errors import DataError

LabelImage = NDArray[np.integer[Any]]

BAND = 2**24  # px


def relabel(labels: LabelImage, min_area: int = 1, split: bool = False) -> NDArray[np.int64]:
    """Renumbers a label image to 1..N without gaps, dropping slivers.

    Args:
        labels: (H, W) integers, 0 is background; below 0 nothing is annotated.
        min_area: objects of fewer pixels are dropped, px.
        split: whether the 8-connected fragments of an object become objects of their own, as they must after a warp
            or a crop has torn it apart.

    Returns:
        int64 (H, W); objects keep their order, or, split, come row by row. What is not annotated is -1.

    >>> relabel(np.array([[7, 7, 0], [0, 0, 3]]))
    array([[2, 2, 0],
           [0, 0, 1]])
    >>> relabel(np.array([[5, 0, 5]]), split=True)
    array([[1, 0, 2]])
    >>> relabel(np.array([[7, 7, 3]]), min_area=2)
    array([[1, 1, 0]])
    """
    if labels.min(initial=0) < 0:
        return np.where(labels < 0, -1, relabel(np.maximum(labels, 0), min_area, split))
    if split:
        # Takes longer to import than all the rest.
        from skimage.measure import label

        labels = label(labels, background=0, connectivity=2)
    labels = labels.astype(np.int64, copy=False)
    # Counting is sixty times as fast as sorting, but not where ids are scattered up to 2^31.
    if labels.max(initial=0) > labels.size:
        labels = np.searchsorted(np.union1d(0, labels), labels)
    area = np.bincount(labels.ravel())
    keep = (area > 0) & (area >= min_area)
    keep[0] = False
    new: NDArray[np.int64] = np.where(keep, np.cumsum(keep), 0)
    return new[labels]


def object_boxes(labels: LabelImage) -> NDArray[np.int64]:
    """The bounding box of each object.

    Args:
        labels: integers (H, W), 1..N without gaps.

    Returns:
        int64 (N, 4): x0, y0, x1, y1 in px, half-open (x1 and y1 are one past the last pixel).

    >>> object_boxes(np.array([[0, 1, 1], [0, 0, 2]])).tolist()
    [[1, 0, 3, 1], [2, 1, 3, 2]]
    """
    # Its import takes longer than that of all else that loads a model.
    from scipy import ndimage

    slices = ndimage.find_objects(labels)
    return np.array([[x.start, y.start, x.stop, y.stop] for y, x in slices], np.int64).reshape(-1, 4)


def new_ids(kept: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The id that each of the ids 0..N gets where not all objects are kept; 0 for those that are dropped.

    Args:
        kept: (N,), whether the object with id k + 1 is.

    >>> new_ids(np.array([True, False, True]))
    array([0, 1, 0, 2], dtype=int32)
    """
    return np.concatenate([[0], np.where(kept, np.cumsum(kept), 0)]).astype(np.int32)


def bands(labels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Some rows after others of an image that may be larger than memory, as views; see `let_go`."""
    step = max(1, BAND // max(labels.shape[1], 1))
    for row in range(0, len(labels), step):
        yield labels[row : row + step]
        let_go(labels)


def let_go(image: NDArray[Any]) -> None:
    """Takes an image out of memory that lies in a file (`karyon.inference.label_store`), where it stays whole."""
    base: Any = image
    while isinstance(base, np.ndarray):
        base = base.base
    mapped = base.obj if isinstance(base, memoryview) else None
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def object_areas(labels: LabelImage, count: int = 0) -> NDArray[np.int64]:
    """How many pixels each object has, int64 (N,), of at least so many objects.

    >>> object_areas(np.array([[0, 1, 1], [-1, 3, 1]])).tolist()
    [3, 0, 1]
    """
    areas = np.zeros(count + 1, np.int64)
    for band in bands(labels):
        found = np.bincount(np.maximum(band, 0).ravel())
        areas = np.pad(areas, (0, max(0, len(found) - len(areas))))
        areas[: len(found)] += found
    return areas[1:]


def encode_run_lengths(mask: NDArray[np.bool_]) -> str:
    """Run lengths of a mask as the Data Science Bowl writes them: ``start length`` pairs, 1-indexed, column by column.

    Source: https://www.kaggle.com/c/data-science-bowl-2018/overview/evaluation

    >>> encode_run_lengths(np.array([[True, False], [True, True]]))
    '1 2 4 1'
    """
    return "".join(encode_objects(mask.astype(np.uint8)))


def encode_objects(labels: LabelImage) -> list[str]:
    """Run lengths of every object of a label image, found in one pass over the image.

    Args:
        labels: (H, W) integers, 0 is background.

    Returns:
        what `encode_run_lengths` says of each object, by ascending id.

    >>> encode_objects(np.array([[1, 2, 2], [1, 0, 1]]))
    ['1 2 6 1', '3 1 5 1']
    """
    return [" ".join(map(str, runs.ravel().tolist())) for runs in object_runs(labels)]


def object_runs(labels: LabelImage) -> list[NDArray[np.int64]]:
    """Runs of pixels of every object, column by column.

    Args:
        labels: (H, W) integers, 0 is background.

    Returns:
        of each object, by ascending id, int64 (n, 2): position of a run's first pixel, from 1, and its length.

    >>> object_runs(np.array([[1, 2, 2], [1, 0, 1]]))[0]
    array([[1, 2],
           [6, 1]])
    """
    flat = labels.ravel(order="F")
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    runs = np.stack([starts + 1, np.diff(starts, append=flat.size)], axis=1)
    # A stable order keeps the runs of each object in the order of the image.
    order = np.argsort(flat[starts], kind="stable")
    ids, first = np.unique(flat[starts][order], return_index=True)
    return np.split(runs[order], first[1:])[int(ids[0] == 0) :]


def decode_run_lengths(text: str, size: tuple[int, int]) -> NDArray[np.int64]:
    """Positions of a mask's pixels in column-major order.

    Args:
        text: ``start length`` pairs, 1-indexed, column by column.
        size: height and width, px.

    Returns:
        int64 (n,): positions into ``image.ravel(order="F")``.

    Raises:
        DataError: the text is not pairs of positive integers, or a run leaves the image.

    >>> decode_run_lengths("1 2 4 1", (2, 2))
    array([0, 1, 3])
    """
    try:
        numbers = np.array(text.split(), dtype=np.int64)
    except (ValueError, OverflowError):
        numbers = np.zeros(1, dtype=np.int64)
    if len(numbers) == 0 or len(numbers) % 2 or (numbers < 1).any():
        raise DataError(
            f"{text[:40]!r} is not a run-length code: expected pairs of positive numbers, 'start length ...'."
        )
    starts, lengths = numbers[::2] - 1, numbers[1::2]
    if (starts > size[0] * size[1] - lengths).any():
        raise DataError(f"The run-length code '{text[:40]}' leaves an image of {size[0]} x {size[1]} px.")
    offsets = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.repeat(starts, lengths) + offsets
