"""The module around a detector: what it learns, how it evaluates, what is tuned."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from echo_model import loader, make_trainer
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from lightning import Callback, LightningDataModule, Trainer, seed_everything
from skimage.measure import regionprops
from torch import Tensor, nn
from torch.utils.data import DataLoader

from karyon.batch import Batch, Sample, collate
from karyon.detection.postprocessing import BoxPostprocessing, MaskPostprocessing
from karyon.detection.targets import detection_targets
from karyon.errors import DataError
from karyon.instances import Instances
from karyon.labels import relabel
from karyon.networks.feature_pyramid import ResNetFPN
from karyon.networks.rcnn import FasterRCNN, MaskRCNN
from lightning_modules.detector import Detector
from lightning_modules.tuning import TuningTrainer


def blocks(name: str, scale: int = 1, objects: int = 2, image_type: str = "") -> Sample:
    """Up to two bright rectangles on 64 x 64 px; the original is the same scene, larger by ``scale``."""
    labels = np.zeros((64, 64), np.int64)
    if objects > 0:
        labels[10:30, 12:28] = 1
    if objects > 1:
        labels[40:52, 30:58] = 2
    truth = np.kron(labels, np.ones((scale, scale), np.int64))
    image = torch.from_numpy(labels > 0).float().repeat(3, 1, 1)
    return Sample(
        name=name,
        image=image,
        size=(truth.shape[0], truth.shape[1]),
        labels=torch.from_numpy(labels),
        image_type=image_type,
        source=(truth > 0).astype(np.uint8),
        truth=torch.from_numpy(truth),
    )


class Knowing(nn.Module):
    """Finds what is bright, as a detector that has learned would, and unsure things in every corner."""

    def __init__(self, masks: bool) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.roi_heads = SimpleNamespace(has_mask=lambda: masks)

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        results = []
        for image in images:
            labels = relabel((image[0] > 0.5).numpy().astype(int), split=True)
            corners = torch.tensor([[0.0, 0.0, 8.0, 8.0], [56.0, 0.0, 64.0, 8.0]])
            boxes = torch.cat([torch.from_numpy(Instances.from_labels(labels).boxes).float(), corners])
            scores = torch.tensor([0.9] * int(labels.max()) + [0.6, 0.4])
            result = {"boxes": boxes, "scores": scores}
            if self.roi_heads.has_mask():
                result["masks"] = torch.ones(len(boxes), 1, 28, 28)
            results.append(result)
        return results


label_images = arrays.arrays(np.int64, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 5))


@given(label_images)
def test_targets_are_the_boxes_and_masks_of_the_objects(labels: np.ndarray) -> None:
    labels = relabel(labels)
    targets = detection_targets(torch.from_numpy(labels), masks=True)
    regions = regionprops(labels)
    expected = [[x0, y0, x1, y1] for y0, x0, y1, x1 in (region.bbox for region in regions)]
    assert targets["boxes"].tolist() == expected
    assert targets["boxes"].dtype == torch.float32 and targets["masks"].dtype == torch.uint8
    assert (targets["boxes"][:, 2:] > targets["boxes"][:, :2]).all()
    assert targets["masks"].sum((1, 2)).tolist() == [region.area for region in regions]
    assert targets["labels"].tolist() == [1] * len(regions)
    assert "masks" not in detection_targets(torch.from_numpy(labels), masks=False)


@pytest.mark.parametrize("masks", [False, True])
def test_predictions_have_the_original_size(masks: bool) -> None:
    postprocessing = MaskPostprocessing(score_threshold=0.7) if masks else BoxPostprocessing(score_threshold=0.7)
    model = Detector(Knowing(masks), postprocessing)  # type: ignore[arg-type]
    samples = [blocks("a", scale=3, image_type="large"), blocks("b", image_type="as it is"), blocks("c", objects=0)]
    predictions = model.predict_step(collate(samples))
    assert [len(prediction.instances) for prediction in predictions] == [2, 2, 0]
    assert predictions[0].instances.labels.shape == (192, 192)
    # An ellipse ends less than a pixel short of its box.
    difference = predictions[0].instances.boxes - np.array([[36, 30, 84, 90], [90, 120, 174, 156]])
    assert np.abs(difference).max() <= (0 if masks else 1)
    logged = make_trainer().test(model, loader(samples, 2), verbose=False)[0]
    # The unsure ones come last in the ranking and cost nothing there.
    assert logged["test/box_map"] == pytest.approx(1)
    assert logged["test/objects_found"] == logged["test/objects_true"] == 4
    assert logged.get("test/mask_map", 1) == pytest.approx(1)
    assert ("test/mask_map" in logged) == masks
    assert logged["test/dsb_score"] == 1 if masks else 0.5 < logged["test/dsb_score"] < 1


def test_images_without_objects_are_evaluated() -> None:
    model = Detector(Knowing(True), MaskPostprocessing(score_threshold=0.7))  # type: ignore[arg-type]
    logged = make_trainer().validate(model, loader([blocks("a", objects=0)]), verbose=False)[0]
    assert logged["val/dsb_score"] == 1
    assert logged["val/box_map"] == logged["val/mask_map"] == -1


class Validation(LightningDataModule):
    def val_dataloader(self) -> DataLoader[Sample]:
        return loader([blocks("a", scale=2), blocks("b", objects=1)], 2)


def test_tuning_finds_the_score_that_parts_true_from_false(tmp_path) -> None:
    model = Detector(Knowing(True), MaskPostprocessing(score_threshold=0.05))  # type: ignore[arg-type]
    path = tmp_path / "model.ckpt"
    tuning = make_trainer(tmp_path, image_type=TuningTrainer)
    tuning.strategy.connect(model)
    tuning.save_checkpoint(path)
    tuning.tune(model, Validation(), ckpt_path=path)
    assert tuning.tuned.parameters == {
        "score_threshold": 0.7,
        "mask_threshold": 0.5,
        "nms_threshold": 0.5,
        "min_area": 10,
    }
    assert tuning.tuned.before < tuning.tuned.after == 1


class Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.values.append(float(outputs["loss"]))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_detector_learns_two_images_by_heart(precision: str) -> None:
    seed_everything(0)
    network = MaskRCNN(ResNetFPN(18, channels=16), proposals=50, samples=32)
    model = Detector(network, MaskPostprocessing(), lambda p: torch.optim.AdamW(p, lr=0.002), channels_last=True)
    losses = Losses()
    fitting = make_trainer(callbacks=[losses], max_epochs=18, precision=precision)
    # One of them without any object.
    fitting.fit(model, loader([blocks("a"), blocks("b", objects=0)], 2))
    assert np.mean(losses.values[-3:]) < 0.5 * np.mean(losses.values[:3])
    assert {"train/loss_objectness", "train/loss_classifier", "train/loss_mask"} <= set(fitting.callback_metrics)


def test_images_without_annotation_are_not_trained_on() -> None:
    sample = blocks("bare")
    model = Detector(FasterRCNN(ResNetFPN(18, channels=8)), BoxPostprocessing())
    batch: Batch = collate([Sample(sample.name, sample.image, sample.size)])
    with pytest.raises(DataError, match="bare: nothing is annotated"):
        model.training_step(batch)
