import cv2
import numpy as np
import pytest
import torch
from echo_model import make_trainer
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning import seed_everything
from torch import nn
from torchmetrics.classification import BinaryJaccardIndex

from datamodules.base import LabelImageDataModule
from datamodules.crops import CropDataModule, decode
from datamodules.drawing import draw_nuclei
from karyon.detection.pasting import paste_masks
from karyon.layouts.protocol import Item
from karyon.losses import BinaryCrossEntropy
from karyon.networks.segnet import SegNet
from karyon.preprocessing import PercentileNormalize, ScaleToUnit
from lightning_modules.crop_segmenter import CropSegmenter, OneObject


class Drawn(LabelImageDataModule):
    """A few drawn images; those that are held out are others."""

    def setup(self, stage: str) -> None:
        for part, seeds in (("train", range(4)), ("val", range(4, 6))):
            rng = [np.random.default_rng(seed) for seed in seeds]
            drawn = [draw_nuclei(generator, (96, 96), "fluorescence") for generator in rng]
            self.items[part] = [Item(f"{part}{k}", "", lambda pair=pair: pair) for k, pair in enumerate(drawn)]


class Brightness(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(20.0))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.gain * (image[:, :1] - 0.4)


def test_crop_iou_is_the_mean_over_crops_at_their_own_size() -> None:
    model = CropSegmenter(Brightness(), BinaryCrossEntropy())
    data = CropDataModule(Drawn(normalization=PercentileNormalize()), crop_size=48, eval_batch_size=3, num_workers=0)
    (logged,) = make_trainer().validate(model, data, verbose=False)
    ious = []
    for sample in data.val_dataloader().dataset:
        probability = model.representation.maps(model(sample.image[None]))[:, 0]
        assert probability.shape == (1, 48, 48)
        at_own_size = torch.from_numpy(model.postprocessing.resize(probability.numpy(), sample.size)[0])
        ious.append(BinaryJaccardIndex()(at_own_size, (sample.truth > 0).int()))
    assert len(set(map(float, ious))) > 5
    assert logged["val/crop_iou"] == pytest.approx(float(torch.stack(ious).mean()), abs=1e-6)


@pytest.mark.slow
def test_a_small_segnet_learns_to_outline_the_nucleus_in_the_middle_alone() -> None:
    seed_everything(0)
    model = CropSegmenter(
        SegNet(widths=(16, 32), skips=1), BinaryCrossEntropy(), optimizer=lambda p: torch.optim.Adam(p, lr=0.01)
    )
    data = CropDataModule(Drawn(normalization=PercentileNormalize()), crop_size=24, batch_size=8, num_workers=0)
    trainer = make_trainer(max_epochs=6, check_val_every_n_epoch=6)
    trainer.fit(model, data)
    assert trainer.callback_metrics["val/crop_iou"] > 0.7


def test_an_object_is_one_even_in_pieces_and_none_where_nothing_is_sure() -> None:
    maps = np.float32([[[0.9, 0.1, 0.5], [0.2, 0.2, 0.2]]])
    found = OneObject()(maps)
    assert found.labels.tolist() == [[1, 0, 1], [0, 0, 0]]
    assert found.scores.tolist() == pytest.approx([0.7])
    assert len(OneObject()(maps / 2)) == 0


def ellipse(seed: int, least: float) -> np.ndarray:
    """A turned ellipse, both of whose axes are at least so long, px, in an image with room around it."""
    rng = np.random.default_rng(seed)
    (a, b), angle = rng.uniform(least / 2, 45, 2), rng.uniform(0, np.pi)
    y, x = np.mgrid[:140, :140] - rng.uniform(60, 80, (2, 1, 1))
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return ((u / a) ** 2 + (v / b) ** 2 <= 1).astype(np.int32)


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.sampled_from([64, 96]), st.sampled_from([0.0, 0.25]))
def test_a_true_mask_cut_resized_and_pasted_back_is_nearly_itself(seed: int, crop_size: int, margin: float) -> None:
    labels = ellipse(seed, least=12)
    image = decode(Item("a", "", lambda: (np.zeros(labels.shape, np.uint8), labels)), ScaleToUnit())
    _, own = image.crop(1, margin, jitter=0)
    mask = cv2.resize(own, (crop_size, crop_size), interpolation=cv2.INTER_NEAREST_EXACT)
    x0, y0, x1, y1 = image.boxes[0]
    side = np.array([x1 - x0, y1 - y0] * 2) * margin * [-1, -1, 1, 1]
    window = np.concatenate([np.floor((image.boxes[0] + side)[:2]), np.ceil((image.boxes[0] + side)[2:])])
    boxes = torch.from_numpy(window)[None].float()
    pasted = paste_masks(boxes, torch.ones(1), torch.from_numpy(mask)[None].float(), labels.shape, 0.5, 0).labels
    both, either = (pasted > 0) & (labels > 0), (pasted > 0) | (labels > 0)
    assert both.sum() / either.sum() >= 0.9
    if own.shape == mask.shape:
        assert np.array_equal(pasted, labels)


@given(st.integers(0, 10**6))
def test_a_true_mask_of_the_crops_size_is_pasted_back_exactly(seed: int) -> None:
    labels = np.zeros((50, 60), np.int32)
    labels[10:34, 20:44] = np.random.default_rng(seed).integers(0, 2, (24, 24))
    labels[[10, 33], [20, 43]] = 1
    image = decode(Item("a", "", lambda: (np.zeros(labels.shape, np.uint8), labels)), ScaleToUnit())
    # 24 px and a quarter of it on each side.
    _, own = image.crop(1, margin=0.25, jitter=0)
    assert own.shape == (36, 36)
    boxes = torch.tensor([[14.0, 4.0, 50.0, 40.0]])
    pasted = paste_masks(boxes, torch.ones(1), torch.from_numpy(own)[None].float(), labels.shape, 0.5, 0).labels
    np.testing.assert_array_equal(pasted, labels)
