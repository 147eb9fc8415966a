"""What a model says of an image: instances, and the prediction that carries them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karyon.labels import LabelImage, bands, new_ids, object_areas, object_boxes
from karyon.planes import PixelSize, Plane


@dataclass(frozen=True)
class Instances:
    """Objects of one image; row k of ``scores`` and ``boxes`` is the object with id k + 1.

    Attributes:
        labels: int32 (H, W): 0 background, 1..N the objects.
        scores: float32 (N,), confidence in [0, 1].
        boxes: int64 (N, 4), x0, y0, x1, y1 in px, half-open (x1 and y1 are one past the last pixel).
    """

    labels: NDArray[np.int32]
    scores: NDArray[np.float32]
    boxes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def confidence(self) -> float:
        """The mean score; 0 without objects."""
        return float(self.scores.mean()) if len(self) else 0.0

    def only(self, kept: NDArray[np.bool_]) -> "Instances":
        """Those objects that are kept, (N,), renumbered; a new label image.

        >>> Instances.from_labels(np.array([[1, 0, 2]])).only(np.array([False, True])).labels
        array([[0, 0, 1]], dtype=int32)
        """
        return Instances(new_ids(kept)[self.labels], self.scores[kept], self.boxes[kept])

    @classmethod
    def from_labels(cls, labels: LabelImage, scores: NDArray[np.floating[Any]] | None = None) -> "Instances":
        """Derives the boxes from a label image.

        Args:
            labels: integers (H, W), 1..N without gaps.
            scores: (N,) in [0, 1]; 1 each by default.

        >>> Instances.from_labels(np.array([[0, 1, 1], [0, 0, 2]])).boxes
        array([[1, 0, 3, 1],
               [2, 1, 3, 2]])
        """
        numbers = labels.astype(np.int32, copy=False)
        boxes = object_boxes(numbers)
        return cls(
            numbers, np.ones(len(boxes), np.float32) if scores is None else np.asarray(scores, np.float32), boxes
        )


def median_diameter(instances: Instances) -> float:
    """The median of the diameters of discs of equal areas, px.

    >>> round(median_diameter(Instances.from_labels(np.ones((2, 2), int))), 2)
    2.26
    """
    return float(np.median(2 * np.sqrt(object_areas(instances.labels) / np.pi)))


def without_crumbs(instances: Instances, share: float, sure: float) -> Instances:
    """Drops small objects of which a model is not sure, such as debris and pieces of nuclei.

    Half of the objects' pixels lie in objects of the typical area or more: however many crumbs there are, it is not
    theirs.

    Args:
        instances: of a whole image; its label image is changed.
        share: of the typical area; smaller objects are small.
        sure: score from which a small object is kept.

    >>> labels = np.repeat([1, 2, 0, 3, 4], [10, 2, 3, 2, 8])[None]
    >>> without_crumbs(Instances.from_labels(labels, np.array([0.9, 0.7, 0.8, 0.6])), 0.3, 0.75).labels.max()
    np.int32(3)
    """
    if not len(instances):
        return instances
    area = object_areas(instances.labels, len(instances))
    ordered = np.sort(area)
    typical = ordered[np.searchsorted(np.cumsum(ordered), ordered.sum() / 2)]
    kept = (area >= share * typical) | (instances.scores >= sure)
    if kept.all():
        return instances
    ids = new_ids(kept)
    for band in bands(instances.labels):
        # Background is not written: in a file it takes no room.
        np.copyto(band, ids[band], where=band > 0)
    return Instances(instances.labels, instances.scores[kept], instances.boxes[kept])


@dataclass(frozen=True)
class Prediction:
    """A model's answer for one image, at the image's original size.

    Attributes:
        name: the image's identifier.
        size: height and width of the original image, px.
        probability: float32 (H, W), probability of the foreground; None for models that give none.
        instances: the objects.
        plane: where the image lies in its file.
        pixel_size: None where it is not known.
        note: what is to be said of the image, such as that it was inverted.
        factor: how many times as large the image in its file is; more than 1 where a lower resolution was read, whose
            size and pixels these are.
    """

    name: str
    size: tuple[int, int]
    probability: NDArray[np.float32] | None
    instances: Instances
    plane: Plane = field(default_factory=Plane)
    pixel_size: PixelSize | None = None
    note: str = ""
    factor: float = 1.0

    def to(self, device: Any) -> "Prediction":
        """Itself: `Trainer.predict` moves what it hands back to the CPU, where this is already."""
        return self
