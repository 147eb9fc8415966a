"""A metric whose state is one row of counts an image, from which every figure is computed at the end."""

import hashlib
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from karyon.labels import LabelImage
from karyon.metrics.matching import label_images

Rows = NDArray[np.void]
IMAGE_TYPE_BYTES = 32


def row_type(counts: list[Any]) -> np.dtype[np.void]:
    """The type of an image's row: a hash of its name, its image type, and the given fields of counts."""
    return np.dtype([("image", "i8"), ("image_type", f"S{IMAGE_TYPE_BYTES}"), *counts])


class PerImageMetric(Metric):
    """Base of the metrics that are computed from counts of each image.

    The state is a list of byte vectors, one an image, each the memory of one `row` record. Counts stay exact integers,
    and the figures over all images and over each image type come from the same state. Processes exchange rows, not
    averages, so any number of processes gives the same figures as one, and an image that a `DistributedSampler` hands
    to two processes, to make their shares equal, is recognised by its name and counted once.

    Metrics with the same rows have the same state, so a `MetricCollection` updates only one of them. Log what its
    `compute()` returns with `log_dict`; Lightning cannot log a metric object whose result is a dictionary.
    """

    is_differentiable = False
    full_state_update = False
    row: ClassVar[np.dtype[np.void]]
    rows: list[Tensor]

    def __init__(self) -> None:
        super().__init__(dist_sync_fn=_gather_rows)
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def compute(self) -> dict[str, Tensor]:
        """Computes the figures of all images so far.

        Returns:
            float32 scalars: each of the metric's keys for all images together, and ``key/<image type>`` for the
            images of each type that has a name; where that is ``<data set>/<type>``, also for the data set. Empty
            before the first image.
        """
        rows = self._distinct_rows()
        scores = self._scores(rows) if len(rows) else {}
        types = np.char.decode(rows["image_type"], "utf-8")
        known = {above for image_type in np.unique(types) for above in _with_sets(image_type)}
        for name in sorted(known - {""}):
            of_type = (types == name) | np.char.startswith(types, f"{name}/")
            scores |= {f"{key}/{name}": score for key, score in self._scores(rows[of_type]).items()}
        return {key: torch.tensor(score, dtype=torch.float32, device=self.device) for key, score in scores.items()}

    def _add(self, counts: tuple[Any, ...], name: str, image_type: str) -> None:
        encoded = image_type.encode()
        if len(encoded) > IMAGE_TYPE_BYTES:
            raise ValueError(f"The image type '{image_type}' is too long: at most {IMAGE_TYPE_BYTES} bytes.")
        row = np.array([(hash_name(name), encoded, *counts)], dtype=self.row)
        self.rows.append(torch.from_numpy(row.view(np.uint8)).to(self.device))

    def _distinct_rows(self) -> Rows:
        if len(self.rows) == 0:
            return np.empty(0, dtype=self.row)
        memory = dim_zero_cat(self.rows).cpu().numpy().view(self.row)
        # Sorted, so that the rounding of sums does not depend on the order in which the processes' rows arrive.
        rows: Rows = np.frombuffer(b"".join(sorted(row.tobytes() for row in memory)), dtype=self.row)
        counted = rows["image"] == hash_name("")
        counted[np.unique(rows["image"], return_index=True)[1]] = True
        return rows[counted]

    @abstractmethod
    def _scores(self, rows: Rows) -> dict[str, float]:
        """The figures of one image or more."""


class LabelImageMetric(PerImageMetric):
    """Base of the metrics that compare a predicted label image with the true one."""

    def update(
        self, pred: LabelImage | Tensor, target: LabelImage | Tensor, name: str = "", image_type: str = ""
    ) -> None:
        """Adds one image.

        Args:
            pred: predicted label image, integers (H, W), 0 is background.
            target: true label image of the same size.
            name: identifier of the image: of several images with one name, one counts. Images without a name all count.
            image_type: image type, at most 32 bytes in UTF-8; ``""`` where unknown.

        Raises:
            ValueError: the images differ in size, one of them is not a label image, or the image_type is too long.
        """
        self._add(self._count(*label_images(target, pred)), name, image_type)

    @abstractmethod
    def _count(self, true: LabelImage, pred: LabelImage) -> tuple[Any, ...]:
        """The counts of one image, in the order of the row's fields."""


class MeanLoss(PerImageMetric):
    """The mean over images of each image's own loss, whatever batches they came in.

    Key: ``loss``.

    >>> metric = MeanLoss()
    >>> metric.update(torch.tensor(0.5), name="a")
    >>> metric.update(torch.tensor(0.1), name="b")
    >>> metric.update(torch.tensor(0.1), name="b")  # handed to two processes
    >>> metric.compute()
    {'loss': tensor(0.3000)}
    """

    higher_is_better = False
    row = row_type([("loss", "f8")])

    def update(self, loss: Tensor, name: str = "", image_type: str = "") -> None:
        """Adds one image.

        Args:
            loss: scalar.
            name: identifier of the image: of several images with one name, one counts. Images without a name all count.
            image_type: image type, at most 32 bytes in UTF-8; ``""`` where unknown.

        Raises:
            ValueError: the image_type is too long.
        """
        self._add((float(loss),), name, image_type)

    def _scores(self, rows: Rows) -> dict[str, float]:
        return {"loss": rows["loss"].mean()}


def _with_sets(image_type: str) -> list[str]:
    """An image type, and what it is part of.

    >>> _with_sets("MoNuSeg/purple-on-white")
    ['MoNuSeg', 'MoNuSeg/purple-on-white']
    """
    parts = image_type.split("/")
    return ["/".join(parts[: k + 1]) for k in range(len(parts))]


def hash_name(name: str) -> int:
    """63 bits that are the same in every process, unlike Python's own hash; 0 for no name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) >> 1 if name else 0


def _gather_rows(rows: Tensor, group: Any = None) -> list[Tensor]:
    # torchmetrics fills in an empty float vector for a process without images; it must look like the others' bytes.
    return gather_all_tensors(rows.to(torch.uint8), group)
