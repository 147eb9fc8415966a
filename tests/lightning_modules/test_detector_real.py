"""The detector's machinery on real images: what it cannot learn by heart it cannot learn."""

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from echo_model import loader, make_trainer
from lightning import seed_everything

from datamodules.base import LabelImageDataset
from datamodules.dsb2018 import DSB2018DataModule
from karyon.detection.postprocessing import BoxPostprocessing
from karyon.networks.feature_pyramid import EfficientNetFPN
from karyon.networks.rcnn import FasterRCNN
from karyon.preprocessing import PercentileNormalize
from lightning_modules.detector import Detector


@pytest.mark.slow
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
    detector = Detector(network, BoxPostprocessing(), partial(torch.optim.AdamW, lr=1e-3), channels_last=True)
    fitting = make_trainer(max_epochs=45, gradient_clip_val=1.0, limit_val_batches=0)
    fitting.fit(detector, loader(few, 4))
    (scores,) = make_trainer().validate(detector, loader(few), verbose=False)
    assert scores["val/box_map50"] > 0.9
