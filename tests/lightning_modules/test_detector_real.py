"""The detector's machinery on real images: what it cannot learn by heart it cannot learn."""

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer, seed_everything
from torch.utils.data import DataLoader

from datamodules.base import LabelImageDataset
from datamodules.dsb2018 import DSB2018DataModule
from datamodules.sample import Sample, collate
from datamodules.transforms import PercentileNormalize
from lightning_modules.detection_decoders import BoxDecoder
from lightning_modules.detector import Detector
from lightning_modules.networks.feature_pyramid import EfficientNetFPN
from lightning_modules.networks.rcnn import FasterRCNN

QUIET: dict[str, Any] = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


@pytest.mark.real_data
def test_four_real_images_are_learned_by_heart(real_dsb2018: Path, real_cache_dir: Path) -> None:
    data = DSB2018DataModule(
        root=real_dsb2018, cache_dir=real_cache_dir, normalization=PercentileNormalize(dark_background=True)
    )
    data.setup("fit")
    images = LabelImageDataset(data.items["train"], data.preparation)
    samples: Iterator[Any] = (images[k] for k in range(len(images)))
    few: Any = [*islice((one for one in samples if one.size == (256, 256) and 5 <= one.truth.max() <= 12), 4)]
    seed_everything(0)
    network = FasterRCNN(EfficientNetFPN(pretrained="imagenet"), proposals=200, samples=64, box_convolutions=0)
    detector = Detector(network, BoxDecoder(), partial(torch.optim.AdamW, lr=1e-3), channels_last=True)
    loader: DataLoader[Sample] = DataLoader(few, batch_size=4, collate_fn=collate)
    Trainer(max_epochs=45, precision="bf16-mixed", gradient_clip_val=1.0, limit_val_batches=0, **QUIET).fit(
        detector, loader
    )
    (scores,) = Trainer(**QUIET).validate(detector, DataLoader(few, collate_fn=collate), verbose=False)
    assert scores["val/box_map50"] > 0.9
