"""One nucleus a crop: the training data of the second of two stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from scipy import ndimage

from datamodules.base import LabelImageDataModule
from karyon.errors import DataError
from karyon.io.reading import Pixels
from karyon.labels import LabelImage, relabel
from karyon.layouts.protocol import Item
from karyon.preprocessing import Image, Normalization

PARTS = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}


class CropDataModule(LabelImageDataModule):
    """The nuclei of another data module, each cut out of its image and brought to one size.

    A crop is the nucleus's box, grown by a margin on each side and, in training, moved at random, as a detector's boxes
    are not perfect either. The neighbours' pixels are background in its label image; where it reaches beyond the image
    it is 0. The splits are those of the other data module, so that no nucleus of a validation image is trained on.

    Images are normalised as a whole, before anything is cut out of them. Each is decoded once, before the first epoch,
    and kept in half precision, which all loading processes share: 0.5 GB for DSB2018's 29,461 nuclei.

    Args:
        images: where the nuclei come from; of its arguments those that say how to load batches, and its augmentations,
            are not used.
        crop_size: height and width that crops are resized to, px.
        margin: on each side, as a share of the box's width or height.
        jitter: in training, how far each edge is moved at most, as a share of the box's width or height.
        kwargs: see `datamodules.base.LabelImageDataModule`.

    Raises:
        ValueError: the images are to be resized, or margin or jitter are out of range.
    """

    def __init__(
        self,
        images: LabelImageDataModule,
        crop_size: int = 64,
        margin: float = 0.25,
        jitter: float = 0.1,
        eval_batch_size: int = 64,
        **kwargs: Any,
    ) -> None:
        preprocessing = images.preprocessing
        super().__init__(
            channels=preprocessing.channels,
            image_size=crop_size,
            normalization=_as_it_is,
            eval_batch_size=eval_batch_size,
            **kwargs,
        )
        if preprocessing.image_size is not None:
            raise ValueError("CropDataModule cuts nuclei out of images of their original sizes: drop their image_size.")
        if not (margin >= 0 and 0 <= jitter < 0.5):
            raise ValueError(f"margin is {margin} and jitter {jitter}: expected 0 or more, and 0 to less than 0.5.")
        self.images = images
        self.margin = margin
        self.jitter = jitter
        # For the record of the run.
        self.annotation = getattr(images, "annotation", None)

    def prepare_data(self) -> None:
        self.images.prepare_data()

    def setup(self, stage: str) -> None:
        self.images.setup(stage)
        for part in PARTS[stage]:
            jitter = self.jitter if part == "train" else 0.0
            self.items[part] = self._crops(self.images.items[part], f"Decoding the images ({part})", jitter)

    def _crops(self, items: Sequence[Item], title: str, jitter: float) -> list[Item]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        crops: list[Item] = []
        quiet = self.trainer is not None and not self.trainer.is_global_zero
        with Progress(*columns, transient=True, disable=quiet) as progress:
            for item in progress.track(items, description=title):
                image = decode(item, self.images.preprocessing.normalization)
                crops += [
                    Item(f"{item.name}#{number}", item.image_type, partial(image.crop, number, self.margin, jitter))
                    for number in range(1, len(image.boxes) + 1)
                ]
        return crops


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """An image whose nuclei are cut out again and again.

    Attributes:
        pixels: float16 (H, W) or (H, W, 3), normalised.
        labels: uint16, or int32 above 65,535 objects, (H, W): 0 background, 1..N the nuclei.
        boxes: float64 (N, 4), x0, y0, x1, y1 in px, half-open.
    """

    pixels: NDArray[np.float16]
    labels: LabelImage
    boxes: NDArray[np.float64]

    def crop(self, number: int, margin: float, jitter: float) -> tuple[Pixels, LabelImage]:
        """Cuts a nucleus out.

        Args:
            number: its id.
            margin: on each side, as a share of the box's width or height.
            jitter: how far each edge is moved at random at most, as a share of the box's width or height.

        Returns:
            float32 (h, w) or (h, w, 3) pixels, and a label image uint8 (h, w) with 1 for this nucleus alone.
        """
        x0, y0, x1, y1 = box = self.boxes[number - 1]
        side = np.array([x1 - x0, y1 - y0] * 2)
        moved = np.array([-margin, -margin, margin, margin])
        if jitter:
            # Of torch's generator, which is seeded for each draw.
            moved += jitter * (2 * torch.rand(4, dtype=torch.float64).numpy() - 1)
        window = box + moved * side
        # To whole pixels, none of the margin being lost.
        window = np.concatenate([np.floor(window[:2]), np.ceil(window[2:])]).astype(int)
        own = (cut(self.labels, window) == number).astype(np.uint8)
        return cut(self.pixels, window).astype(np.float32), own


def decode(item: Item, normalization: Normalization) -> DecodedImage:
    """Reads an image whose nuclei shall be cut out.

    Raises:
        DataError: it is not annotated, or cannot be normalised.
    """
    pixels, labels = item.read()
    if labels is None:
        raise DataError(
            f"{item.name}: nothing is annotated here, and a crop is cut around an annotated nucleus; predict whole "
            "images with lightning_modules.two_stage.TwoStage."
        )
    try:
        normalised = normalization(pixels).astype(np.float16)
    except DataError as error:
        raise DataError(f"{item.name}: {error}") from None
    labels = relabel(np.maximum(labels, 0))
    found = ndimage.find_objects(labels)
    boxes = np.array([(x.start, y.start, x.stop, y.stop) for y, x in found], dtype=np.float64).reshape(-1, 4)
    return DecodedImage(normalised, labels.astype(np.uint16 if len(boxes) < 2**16 else np.int32), boxes)


def cut(array: NDArray[Any], window: NDArray[np.int64]) -> NDArray[Any]:
    """Cuts a window (x0, y0, x1, y1, half-open) out of an array (H, W, ...); beyond its edges there are zeros.

    >>> cut(np.array([[1, 2], [3, 4]]), np.array([1, -1, 4, 1]))
    array([[0, 0, 0],
           [2, 0, 0]])
    """
    x0, y0, x1, y1 = window
    piece = np.zeros((y1 - y0, x1 - x0, *array.shape[2:]), array.dtype)
    inside = array[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    top, left = max(-y0, 0), max(-x0, 0)
    piece[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return piece


def _as_it_is(pixels: Pixels) -> Image:
    """Pixels of an image that was normalised as a whole."""
    return pixels
