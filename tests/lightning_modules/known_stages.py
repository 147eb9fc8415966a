"""Stages that need no training, as runs that `TwoStage` finds: bright is nucleus, and what holds together is one."""

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import lightning
import numpy as np
import torch
import yaml
from scipy import ndimage
from torch import Tensor, nn

from karyon.batch import Sample
from lightning_modules.detector import Detector


class Bright(nn.Module):
    """Logits of crops, sure of what is brighter than one half."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(20.0))

    def forward(self, image: Tensor) -> Tensor:
        return self.gain * (image[:, :1] - 0.5)


class Boxes(nn.Module):
    """The boxes of bright components, all of them certain."""

    roi_heads = SimpleNamespace(has_mask=lambda: False)

    def __init__(self) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(0.5))

    def forward(self, images: Iterable[Tensor]) -> list[dict[str, Tensor]]:
        found = []
        for image in images:
            slices = ndimage.find_objects(ndimage.label((image[0] > self.threshold).numpy())[0])
            boxes = torch.tensor([[x.start, y.start, x.stop, y.stop] for y, x in slices]).reshape(-1, 4).float()
            found.append({"boxes": boxes, "scores": torch.ones(len(boxes))})
        return found


class Components(Detector):
    def __init__(self) -> None:
        lightning.LightningModule.__init__(self)
        self.network = Boxes()


def write_runs(folder: Path, crop_size: int, margin: float) -> tuple[Path, Path]:
    """Writes a run of each stage; returns their checkpoints."""
    images = {"init_args": {"channels": 3, "normalization": None}}
    crops = {"init_args": {"crop_size": crop_size, "margin": margin, "images": images}}
    network, loss = {"class_path": "known_stages.Bright"}, {"class_path": "karyon.losses.BinaryCrossEntropy"}
    segmenter = {
        "class_path": "lightning_modules.crop_segmenter.CropSegmenter",
        "init_args": {"network": network, "loss": loss},
    }
    weights = {"network.gain": torch.tensor(20.0)}, {"network.threshold": torch.tensor(0.5)}
    checkpoints = []
    for name, model, data, state in (
        ("segmenter", segmenter, crops, weights[0]),
        ("detector", {"class_path": "known_stages.Components"}, images, weights[1]),
    ):
        checkpoint = folder / name / "version_0" / "checkpoints" / "best.ckpt"
        checkpoint.parent.mkdir(parents=True)
        torch.save({"state_dict": state}, checkpoint)
        (checkpoint.parents[1] / "config.yaml").write_text(yaml.safe_dump({"model": model, "data": data}))
        checkpoints.append(checkpoint)
    return checkpoints[1], checkpoints[0]


def ellipses(rows: int, columns: int, pitch: int) -> np.ndarray:
    """A label image of ellipses of many sizes, none of which touch."""
    labels = np.zeros((rows * pitch, columns * pitch), np.int64)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:pitch, :pitch] - (pitch - 1) / 2
    for k in range(rows * columns):
        a, b = rng.uniform(0.25 * pitch, 0.45 * pitch, 2)
        r, c = np.array(divmod(k, columns)) * pitch
        labels[r : r + pitch, c : c + pitch][(y / a) ** 2 + (x / b) ** 2 <= 1] = k + 1
    return labels


def sample(name: str, labels: np.ndarray, size: tuple[int, int] | None = None) -> Sample:
    """Bright objects; ``size`` is that of the original, whole times as large."""
    image = torch.from_numpy(labels > 0).float().expand(3, -1, -1)
    factor = size[0] // len(labels) if size else 1
    truth = torch.from_numpy(labels.repeat(factor, 0).repeat(factor, 1))
    return Sample(name, image, (truth.shape[0], truth.shape[1]), torch.from_numpy(labels), "", truth.numpy(), truth)
