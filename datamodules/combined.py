"""Several data sets in one training."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from datamodules.base import LabelImageDataModule, counted
from datamodules.sampling import Pool
from karyon.layouts.protocol import Item
from karyon.preprocessing import ScaleToUnit


class CombinedDataModule(LabelImageDataModule):
    """Draws from several data sets by weight; each keeps its reader, its split and its groups.

    Validation, test and prediction go through the images of all of them. An image is called ``<data set>/<name>`` and
    is of the type ``<data set>/<image type>``, so that there are scores of each data set and of each type in it.

    Args:
        datasets: the data sets. How images are prepared, drawn and loaded is said once, for all of them, by the
            arguments below; ``balance`` applies within each.
        weights: how often each is drawn from in training, in proportion to the others; by default as often as it has
            images.
        kwargs: see `datamodules.base.LabelImageDataModule`.

    Raises:
        ValueError: there is not one weight above 0 for each data set, or one of them prepares its images by itself.
    """

    def __init__(self, datasets: list[LabelImageDataModule], weights: list[float] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not datasets or (weights is not None and (len(weights) != len(datasets) or min(weights) <= 0)):
            raise ValueError(f"{len(datasets)} data sets have the weights {weights}: give one above 0 for each.")
        self.datasets = dict(zip(_names(datasets), datasets, strict=True))
        for name, dataset in self.datasets.items():
            own = dataset.preprocessing.image_size or dataset.train_preparation.augmentations
            if own or not isinstance(dataset.preprocessing.normalization, ScaleToUnit):
                raise ValueError(
                    f"The images of all data sets are prepared alike: move image_size, normalization and augmentations "
                    f"of {name} to the data module that combines them."
                )
            dataset.balance, dataset.train_on_validation = self.balance, self.train_on_validation
        self.weights = weights
        self.licence = " AND ".join(sorted({dataset.licence for dataset in datasets} - {""}))

    @property
    def provenance(self) -> dict[str, Any]:
        parts = {name: dataset.provenance for name, dataset in self.datasets.items()}
        weights = {"weights": self.weights} if self.weights else {}
        return {**super().provenance, **weights, "datasets": parts}

    def summary(self) -> str:
        parts = (f"{name}: {counted(dataset.provenance)}." for name, dataset in self.datasets.items())
        return " ".join([super().summary(), *parts])

    def prepare_data(self) -> None:
        for dataset in self.datasets.values():
            dataset.prepare_data()

    def setup(self, stage: str) -> None:
        for dataset in self.datasets.values():
            dataset.setup(stage)
        for part in self.items:
            self.items[part] = [
                item for name, dataset in self.datasets.items() for item in _of(name, dataset.items[part])
            ]

    def pools(self) -> list[Pool]:
        pools = []
        for number, (name, dataset) in enumerate(self.datasets.items()):
            own = dataset.pools()
            total = sum(pool.share for pool in own)
            weight = self.weights[number] if self.weights else sum(len(pool.items) for pool in own)
            pools += [Pool(_of(name, pool.items), weight * pool.share / total) for pool in own]
        return pools


def _names(datasets: Sequence[LabelImageDataModule]) -> list[str]:
    """What the data sets are called: their classes, numbered where one comes again."""
    names = [type(dataset).__name__.removesuffix("DataModule") for dataset in datasets]
    earlier = [names[:number].count(name) for number, name in enumerate(names)]
    return [f"{name}-{count + 1}" if count else name for name, count in zip(names, earlier, strict=True)]


def _of(name: str, items: Sequence[Item]) -> list[Item]:
    return [
        replace(item, name=f"{name}/{item.name}", image_type=f"{name}/{item.image_type}".rstrip("/")) for item in items
    ]
