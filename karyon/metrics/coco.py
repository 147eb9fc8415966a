"""COCO's mean average precision, which ranks the objects by their scores; for images of any number of objects.

Of several processes each must be given equally many images, as Lightning's sampler sees to; an image that it repeats to
that end is recognised by its name and counts once.
"""

from typing import Any, Literal

import numpy as np
import torch
from faster_coco_eval.core import mask as coco_mask
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision
from torchvision.ops import box_convert

from karyon.detection.detections import Detections
from karyon.instances import Instances
from karyon.labels import LabelImage, encode_objects
from karyon.metrics.per_image import hash_name

# By default 100 detections of an image count: with 300 objects a perfect detector would score .34.
NO_LIMIT = 1_000_000
# Ours for theirs.
KEYS = {"map": "map", "map50": "map_50", "map75": "map_75"}


class _NamedImages(MeanAveragePrecision):
    """Mean average precision of images that are told apart by their names."""

    images: list[Tensor]

    def __init__(self, *iou_types: Literal["bbox", "segm"]) -> None:
        super().__init__(iou_type=iou_types, max_detection_thresholds=[1, 100, NO_LIMIT], backend="faster_coco_eval")
        self.add_state("images", default=[], dist_reduce_fx=None)

    def compute(self) -> dict[str, Tensor]:
        kept = distinct(np.array([int(image) for image in self.images], dtype=np.int64))
        for state in self._defaults:
            # Boxes alone leave those of masks empty.
            if values := getattr(self, state):
                setattr(self, state, [values[place] for place in kept])
        return super().compute()

    def _add_name(self, name: str) -> None:
        self.images.append(torch.tensor(hash_name(name), device=self.device))


class BoxMeanAveragePrecision(_NamedImages):
    """Box mAP: mean over IoU .50, .55 ... .95 of the area under the precision-recall curve, over all images at once.

    Keys: ``box_map``, and ``box_map50`` and ``box_map75`` at one threshold; in [0, 1], -1 where no image has an object.

    Source: https://cocodataset.org/#detection-eval

    >>> metric = BoxMeanAveragePrecision()
    >>> boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    >>> metric.update(Detections(boxes, torch.tensor([0.9])), boxes)
    >>> metric.compute()["box_map"]
    tensor(1.)
    """

    def __init__(self) -> None:
        super().__init__("bbox")

    def update(self, detections: Detections, truth: Tensor, name: str = "") -> None:  # type: ignore[override]
        """Adds one image.

        Args:
            detections: found boxes and scores.
            truth: the true boxes (N, 4), x0, y0, x1, y1 in px, half-open.
            name: identifier of the image: of several images with one name, one counts. Images without a name all count.
        """
        found = {"boxes": detections.boxes, "scores": detections.scores, "labels": one_class(len(detections))}
        true = {"boxes": truth.float(), "labels": one_class(len(truth))}
        # To the device, which is where processes exchange their states.
        super().update(*([{key: value.to(self.device) for key, value in item.items()}] for item in (found, true)))
        self._add_name(name)

    def compute(self) -> dict[str, Tensor]:
        results = super().compute()
        return {f"box_{ours}": results[theirs] for ours, theirs in KEYS.items()}


class MaskMeanAveragePrecision(_NamedImages):
    """Mask mAP of scored label images, in which masks cannot overlap.

    Masks go from label image to run lengths at once: as an image each, those of 2,000 objects in 2048 x 2048 px would
    fill 8 GB. Keys: ``mask_map``, ``mask_map50`` and ``mask_map75``, as of `BoxMeanAveragePrecision`.

    Source: https://cocodataset.org/#detection-eval
    """

    def __init__(self) -> None:
        # With the boxes too: without them torchmetrics leaves out what is found in images that hold no object.
        super().__init__("bbox", "segm")

    def update(self, found: Instances, truth: LabelImage, name: str = "") -> None:  # type: ignore[override]
        """Adds one image.

        Args:
            found: all objects of the image, however unsure.
            truth: the true label image, integers (H, W), 1..N without gaps.
            name: as of `BoxMeanAveragePrecision`.
        """
        true = Instances.from_labels(truth)
        for instances, boxes, masks, labels in (
            (found, self.detection_box, self.detection_mask, self.detection_labels),
            (true, self.groundtruth_box, self.groundtruth_mask, self.groundtruth_labels),
        ):
            boxes.append(box_convert(torch.from_numpy(instances.boxes).float(), "xyxy", "xywh").to(self.device))
            masks.append(run_lengths(instances.labels))  # type: ignore[arg-type]
            labels.append(one_class(len(instances)).to(self.device))
        self.detection_scores.append(torch.from_numpy(found.scores).to(self.device))
        # Neither a crowd, nor an area other than its mask's.
        for state in (self.groundtruth_crowds, self.groundtruth_area):
            state.append(one_class(len(true)).to(self.device))
        self._add_name(name)

    def compute(self) -> dict[str, Tensor]:
        results = super().compute()
        return {f"mask_{ours}": results[f"segm_{theirs}"] for ours, theirs in KEYS.items()}


def distinct(images: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each image comes first, in the order of the names, so that ties do not depend on who was given which.

    Args:
        images: of each its name as a number, 0 where it has none; of those all count.

    >>> distinct(np.array([7, 0, 5, 7, 0]))
    array([1, 4, 2, 0])
    """
    order = np.argsort(images, kind="stable")
    before = np.append(0, images[order])[:-1]
    return order[(images[order] != before) | (images[order] == 0)]


def one_class(count: int) -> Tensor:
    """The class, 0, of each of so many nuclei."""
    return torch.zeros(count, dtype=torch.int64)


def run_lengths(labels: LabelImage) -> tuple[Any, ...]:
    """The masks of a label image (H, W), by ascending id, as COCO's compressed run lengths with their size."""
    height, width = labels.shape
    masks = []
    for code in encode_objects(labels):
        starts, lengths = np.array(code.split(), dtype=np.int64).reshape(-1, 2).T
        edges = np.stack([starts - 1, starts - 1 + lengths], axis=1).ravel()
        counts = np.diff(edges, prepend=0, append=height * width).tolist()
        mask = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        masks.append((tuple(mask["size"]), mask["counts"]))
    return tuple(masks)
