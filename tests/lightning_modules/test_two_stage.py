from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from known_stages import Boxes, Bright, ellipses, sample, write_runs
from torch.utils._python_dispatch import TorchDispatchMode

from datamodules.crops import decode
from karyon.batch import collate
from karyon.detection.postprocessing import MaskPostprocessing
from karyon.detection.predictor import DetectionPredictor
from karyon.detection.two_stage import TwoStageNetwork, cut_crops
from karyon.inference.blocks import Blocks
from karyon.inference.views import View
from karyon.layouts.protocol import Item
from karyon.metrics.matching import match_instances
from karyon.preprocessing import ScaleToUnit, resize
from lightning_modules.two_stage import TwoStage


@pytest.fixture
def model(tmp_path: Path) -> TwoStage:
    return TwoStage(*write_runs(tmp_path, crop_size=32, margin=0.25), postprocessing=MaskPostprocessing()).eval()


def test_objects_are_found_at_the_original_size(model: TwoStage) -> None:
    labels = ellipses(3, 4, 30)
    samples = [sample("a", labels), sample("b", labels, (180, 240)), sample("none", np.zeros((90, 120), np.int64))]
    with torch.no_grad():
        same, doubled, none = model.predict_step(collate(samples))
    # Half a pixel at the border decides the last thresholds.
    assert (match_instances(labels, same.instances.labels).tp[:7] == 12).all()
    assert doubled.instances.labels.shape == (180, 240)
    assert (match_instances(samples[1].truth.numpy(), doubled.instances.labels).tp[:7] == 12).all()
    assert len(none.instances) == 0 and none.instances.labels.shape == (90, 120)
    assert same.probability is None


def test_many_nuclei_take_little_more_memory_than_the_image(model: TwoStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("karyon.detection.two_stage.PASS", 100 * 32 * 32)
    labels = ellipses(15, 20, 20)
    batch = collate([sample("crowd", labels)])
    largest = 0

    class Watcher(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    with torch.no_grad(), Watcher():
        (prediction,) = model.predict_step(batch)
    assert len(prediction.instances) == 300
    assert (match_instances(labels, prediction.instances.labels).tp[:5] == 300).all()
    # The masks of all, or the image itself; one crop more than fits into a pass would show too.
    assert largest <= max(300 * 32 * 32, 3 * labels.size, 100 * 3 * 32 * 32)


@pytest.mark.parametrize("side", [9, 40, 70])
def test_crops_are_cut_as_they_were_to_train(side: int) -> None:
    rng = np.random.default_rng(side)
    pixels = np.asarray(resize(rng.random((14, 18, 3), np.float32), (112, 144))).clip(0, 1)
    labels = np.zeros((112, 144), np.int32)
    labels[20 : 20 + side, 30 : 30 + side] = 1
    image = decode(Item("a", "", lambda: (pixels, labels)), ScaleToUnit())
    crop, _ = image.crop(1, margin=0, jitter=0)
    trained = torch.from_numpy(resize(crop, (40, 40))).permute(2, 0, 1)
    boxes = torch.from_numpy(image.boxes).float()
    (cut,) = cut_crops(torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), boxes, 40)
    # But for the outermost pixels, where the one sees what lies beyond.
    torch.testing.assert_close(cut[:, 2:-2, 2:-2], trained[:, 2:-2, 2:-2], atol=0.02, rtol=0)


def test_beyond_the_image_crops_are_empty() -> None:
    (crop,) = cut_crops(torch.ones(1, 20, 20), torch.tensor([[-10.0, 0.0, 10.0, 20.0]]), 20)
    assert crop[0, :, :9].max() == 0 and crop[0, 1:, 11:].min() == 1


@pytest.mark.parametrize(("scale", "widest", "entry"), [(1.0, 128, 9), (2.0, 192, 6)])
def test_blocks_find_what_the_whole_shows_and_see_no_more_than_a_block(scale: float, widest: int, entry: int) -> None:
    seen: list[int] = []
    network = TwoStageNetwork(Boxes(), Bright(), crop_size=32, margin=0.25)
    network.register_forward_pre_hook(lambda _, given: seen.extend(max(image.shape[1:]) for image in given[0]))
    predictor = DetectionPredictor(network, MaskPostprocessing(), torch.device("cpu"))
    labels = ellipses(5, 7, 30)
    image = np.repeat((labels > 0)[None], 3, 0).astype(np.float32)
    whole, parts = (
        replace(predictor, blocks=blocks).find(lambda region: image[(..., *region)], labels.shape, View(scale=scale))[1]
        for blocks in (None, Blocks(64, 32))
    )
    assert len(whole) == len(parts) == 35
    assert match_instances(whole.labels, parts.labels).tp[entry] == 35
    assert seen[0] == 210 * scale and max(seen[1:]) == widest


def test_only_boxes_that_stay_get_a_mask() -> None:
    class Doubtful(Boxes):
        """Finds each object a second time, and a third time hardly."""

        def forward(self, images):
            return [
                {
                    "boxes": single["boxes"].repeat(3, 1),
                    "scores": torch.cat([single["scores"], 0.9 * single["scores"], 0.1 * single["scores"]]),
                }
                for single in super().forward(images)
            ]

    crops: list[int] = []
    network = TwoStageNetwork(Doubtful(), Bright(), crop_size=32, margin=0.25)
    network.segmenter.register_forward_pre_hook(lambda _, given: crops.append(len(given[0])))
    labels = ellipses(2, 3, 30)
    image = np.repeat((labels > 0)[None, None], 3, 1).astype(np.float32)
    predictor = DetectionPredictor(network, MaskPostprocessing(), torch.device("cpu"))
    ((_, found),) = predictor.at_once(image, [labels.shape])
    assert crops == [6] and (match_instances(labels, found.labels).tp[:7] == 6).all()
    # What is scored as detections is all of them.
    (every,) = predictor.detect(image, [labels.shape])
    assert len(every) == 18 and crops == [6, 18]
