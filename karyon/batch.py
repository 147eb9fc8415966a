"""The label image and what travels with it: the one annotation type that every data set and every model shares."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from karyon.errors import DataError
from karyon.planes import PixelSize


@dataclass(frozen=True)
class Sample:
    """One image with its annotation, as a data set returns it.

    Attributes:
        name: identifier of the image, unique in its data set.
        image: float32 (C, H, W), the network's input, normalised.
        size: height and width of the original image, px.
        labels: int64 (H, W), aligned with ``image``: 0 background, 1..N the objects, -1 not annotated, which loss and
            scores leave out. None where nothing is annotated.
        image_type: image type (modality or staining), ``""`` where unknown.
        source: the original pixels (H0, W0) or (H0, W0, C0), any dtype; only outside training.
        truth: int64 (H0, W0), the annotation at the original size; only outside training.
        pixel_size: of the original, where it is known; only in prediction.
    """

    name: str
    image: Tensor
    size: tuple[int, int]
    labels: Tensor | None = None
    image_type: str = ""
    source: NDArray[Any] | None = None
    truth: Tensor | None = None
    pixel_size: PixelSize | None = None


@dataclass(frozen=True)
class Batch:
    """Samples whose network inputs have one size; originals keep their own sizes.

    Attributes:
        image: float32 (B, C, H, W).
        labels: int64 (B, H, W), or None when a sample has no annotation.
        names, sizes, image_types, sources, truths, pixel_sizes: B entries each, as in `Sample`.
    """

    image: Tensor
    labels: Tensor | None
    names: list[str]
    sizes: list[tuple[int, int]]
    image_types: list[str]
    sources: list[NDArray[Any] | None] = field(default_factory=list)
    truths: list[Tensor | None] = field(default_factory=list)
    pixel_sizes: list[PixelSize | None] = field(default_factory=list)

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


def whole_annotation(batch: Batch) -> Tensor:
    """As `annotation`, for models that cannot leave a part of an image out.

    Raises:
        DataError: a part of an image is not annotated.
    """
    labels = annotation(batch)
    if labels.min() < 0:
        raise DataError(
            f"{batch.names[0]}, or an image beside it, is not annotated throughout (-1): train a dense model."
        )
    return labels


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
        image_types=[sample.image_type for sample in samples],
        sources=[sample.source for sample in samples],
        truths=[sample.truth for sample in samples],
        pixel_sizes=[sample.pixel_size for sample in samples],
    )
