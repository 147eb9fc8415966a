"""Images to predict: those that cannot be used are left out and listed, and the others are predicted."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset

from karyon.batch import Batch, Sample, collate
from karyon.errors import DataError
from karyon.io.tiff import tiff_pixel_size
from karyon.layouts.protocol import Item

Refused = dict[Path, str]
"""Why files cannot be used."""


class UsableDataset(Dataset[Sample | Refused]):
    """The samples of a data set, or why there is none.

    Args:
        samples: of each item.
        items: which they are.
    """

    def __init__(self, samples: Dataset[Sample], items: Sequence[Item]) -> None:
        self.samples, self.items = samples, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Sample | Refused:
        item = self.items[number]
        try:
            sample = self.samples[number]
            return replace(sample, pixel_size=tiff_pixel_size(item.files[0])) if item.files else sample
        except DataError as error:
            return {item.files[0] if item.files else Path(item.name): str(error).removeprefix(f"{item.name}: ")}


def collate_usable(samples: Sequence[Sample | Refused]) -> tuple[Batch | None, Refused]:
    """Stacks the samples that there are into a batch, None where there are none."""
    usable = [sample for sample in samples if isinstance(sample, Sample)]
    refused = {path: why for sample in samples if isinstance(sample, dict) for path, why in sample.items()}
    return collate(usable) if usable else None, refused


class PredictionLoader(DataLoader[Any]):
    """Yields the batches of what can be used.

    Attributes:
        refused: of this process, so far.
    """

    refused: Refused

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self.refused = {}
        for batch, refused in super().__iter__():
            self.refused |= refused
            if batch is not None:
                yield batch
