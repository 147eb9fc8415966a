"""The label image and what travels with it: the one annotation type that every data set and every model shares."""

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.measure import label as connected_components
from torch import Tensor

LabelImage = NDArray[np.integer[Any]]

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DataError(Exception):
    """Input that cannot be used. The message is one sentence: the file, what is wrong, what to do."""


def first_line(error: Exception) -> str:
    """What a library says of damaged input, short enough to stand within a sentence of ours.

    >>> first_line(ValueError("no image\\nat all")), first_line(ValueError())
    ('no image', 'ValueError')
    """
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def cannot_write(path: Path | str, error: OSError, then: str) -> DataError:
    """What to raise where the operating system refuses to write.

    Args:
        path: what was to be written.
        error: what it says.
        then: what to do once there is space, or leave to write; or what to do instead.

    >>> print(cannot_write("a.csv", OSError(errno.ENOSPC, "Disk full"), "or choose another folder with --out"))
    a.csv cannot be written (Disk full): free space, or choose another folder with --out.
    """
    remedy = "see that nothing is in its way and that you may write there"
    if error.errno in DISK_FULL:
        remedy = "free space"
    return DataError(f"{path} cannot be written ({error.strerror or error}): {remedy}, {then}.")


@dataclass(frozen=True)
class Sample:
    """One image with its annotation, as a data set returns it.

    Attributes:
        name: identifier of the image, unique in its data set.
        image: float32 (C, H, W), the network's input, normalised.
        size: height and width of the original image, px.
        labels: int64 (H, W), aligned with ``image``: 0 background, 1..N the objects. None where nothing is annotated.
        kind: image type (modality or staining), ``""`` where unknown.
        source: the original pixels (H0, W0) or (H0, W0, C0), any dtype; only outside training.
        truth: int64 (H0, W0), the annotation at the original size; only outside training.
    """

    name: str
    image: Tensor
    size: tuple[int, int]
    labels: Tensor | None = None
    kind: str = ""
    source: NDArray[Any] | None = None
    truth: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """Samples whose network inputs have one size; originals keep their own sizes.

    Attributes:
        image: float32 (B, C, H, W).
        labels: int64 (B, H, W), or None when a sample has no annotation.
        names, sizes, kinds, sources, truths: B entries each, as in `Sample`.
    """

    image: Tensor
    labels: Tensor | None
    names: list[str]
    sizes: list[tuple[int, int]]
    kinds: list[str]
    sources: list[NDArray[Any] | None] = field(default_factory=list)
    truths: list[Tensor | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """Moves what the network and the loss read; originals and truths stay where they are."""
        labels = None if self.labels is None else self.labels.to(device, non_blocking=non_blocking)
        return replace(self, image=self.image.to(device, non_blocking=non_blocking), labels=labels)

    def pin_memory(self) -> "Batch":
        labels = None if self.labels is None else self.labels.pin_memory()
        return replace(self, image=self.image.pin_memory(), labels=labels)


def annotation(batch: Batch) -> Tensor:
    """The label images of a batch, int64 (B, H, W).

    Raises:
        DataError: an image has none.
    """
    if batch.labels is None:
        raise DataError(f"{batch.names[0]}: nothing is annotated here; train, validate and test on images with labels.")
    return batch.labels


def collate(samples: Sequence[Sample]) -> Batch:
    """Stacks samples into a batch.

    Raises:
        DataError: the network inputs differ in size.
    """
    shapes = {tuple(sample.image.shape) for sample in samples}
    if len(shapes) > 1:
        names = ", ".join(f"{sample.name} {tuple(sample.image.shape)}" for sample in samples[:4])
        raise DataError(
            f"Images of different sizes cannot share a batch ({names}): set image_size, add a crop to the "
            "augmentations, or use a batch size of 1."
        )
    labels = [sample.labels for sample in samples if sample.labels is not None]
    images = [sample.image for sample in samples]
    return Batch(
        # A single image, which may be large, is not copied.
        image=torch.stack(images) if len(images) > 1 else images[0][None],
        labels=torch.stack(labels) if len(labels) == len(samples) else None,
        names=[sample.name for sample in samples],
        sizes=[sample.size for sample in samples],
        kinds=[sample.kind for sample in samples],
        sources=[sample.source for sample in samples],
        truths=[sample.truth for sample in samples],
    )


def relabel(labels: LabelImage, min_area: int = 1, split: bool = False) -> NDArray[np.int64]:
    """Renumbers a label image to 1..N without gaps, dropping slivers.

    Args:
        labels: (H, W) integers, 0 is background.
        min_area: objects of fewer pixels are dropped, px.
        split: whether the 8-connected fragments of an object become objects of their own, as they must after a warp
            or a crop has torn it apart.

    Returns:
        int64 (H, W); objects keep their order, or, split, come row by row.

    >>> relabel(np.array([[7, 7, 0], [0, 0, 3]]))
    array([[2, 2, 0],
           [0, 0, 1]])
    >>> relabel(np.array([[5, 0, 5]]), split=True)
    array([[1, 0, 2]])
    >>> relabel(np.array([[7, 7, 3]]), min_area=2)
    array([[1, 1, 0]])
    """
    labels = connected_components(labels, background=0, connectivity=2) if split else labels.astype(np.int64)
    # Counting is sixty times as fast as sorting, but not where ids are scattered up to 2^31.
    if labels.max(initial=0) > labels.size:
        labels = np.searchsorted(np.union1d(0, labels), labels)
    area = np.bincount(labels.ravel())
    keep = (area > 0) & (area >= min_area)
    keep[0] = False
    new: NDArray[np.int64] = np.where(keep, np.cumsum(keep), 0)
    return new[labels]


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
        raise DataError(f"'{text[:40]}' is no run-length code: expected pairs of positive numbers, 'start length ...'.")
    starts, lengths = numbers[::2] - 1, numbers[1::2]
    if (starts > size[0] * size[1] - lengths).any():
        raise DataError(f"The run-length code '{text[:40]}' leaves an image of {size[0]} x {size[1]} px.")
    offsets = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.repeat(starts, lengths) + offsets
