"""Synthetic nuclei in several modalities: the embedded default, and what the tests run on."""

import shutil
from pathlib import Path
from typing import Any

from datamodules.drawing import write_dsb_layout
from datamodules.dsb2018 import DSB2018DataModule
from datamodules.locks import only_one


class SyntheticDataModule(DSB2018DataModule):
    """Drawn nuclei, written in DSB2018's layout and read by the same code. Needs no download.

    Args:
        root: folder that the data set is written into, one subfolder for each choice of the arguments below.
        cache_dir: see `DSB2018DataModule`.
        train: number of images to train and validate on.
        test: number of images to test on.
        size: height and width, px; half of the images are a quarter wider.
        seed: another seed, other images.
        kwargs: see `DSB2018DataModule` and `datamodules.base.LabelImageDataModule`.
    """

    def __init__(
        self,
        root: Path = Path("data/synthetic"),
        cache_dir: Path = Path("data/cache"),
        train: int = 60,
        test: int = 20,
        size: tuple[int, int] = (128, 128),
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        height, width = size
        folder = Path(root) / f"{train}-{test}-{height}x{width}-seed{seed}"
        super().__init__(root=folder, cache_dir=cache_dir, manifest=None, **kwargs)
        self.train, self.test, self.size, self.seed = train, test, (height, width), seed

    def prepare_data(self) -> None:
        self.root.parent.mkdir(parents=True, exist_ok=True)
        with only_one(self.root.with_suffix(".lock"), f"drawing the data set {self.root}"):
            if not self.root.exists():
                # Drawn beside its place and renamed, so that a killed process leaves no half data set.
                building = self.root.with_suffix(".building")
                shutil.rmtree(building, ignore_errors=True)
                write_dsb_layout(building, self.train, self.test, self.size, self.seed)
                building.rename(self.root)
        super().prepare_data()
