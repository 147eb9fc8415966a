"""From boxes and masks that may overlap to a label image."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from karyon.detection.detections import Detections
from karyon.detection.postprocessing import BoxPostprocessing, MaskPostprocessing
from karyon.instances import Instances

BOXES = torch.tensor([[10.0, 10.0, 50.0, 30.0], [11.0, 10.0, 50.0, 31.0], [60.0, 5.0, 70.0, 35.0]])
SCORES = torch.tensor([0.8, 0.9, 0.6])


def test_boxes_are_filled_with_their_ellipses() -> None:
    instances = BoxPostprocessing()(Detections(BOXES[[0, 2]], SCORES[[0, 2]]), (40, 80))
    assert isinstance(instances.labels, np.ndarray) and instances.labels.dtype == np.int32
    # The pixels at an ellipse's four ends have their centres outside.
    assert np.abs(instances.boxes - BOXES[[0, 2]].numpy()).max() <= 1
    assert instances.scores == pytest.approx([0.8, 0.6])
    for k, (width, height) in enumerate([(40, 20), (10, 30)], start=1):
        assert (instances.labels == k).sum() == pytest.approx(math.pi / 4 * width * height, rel=0.02)


def test_a_pixel_of_two_ellipses_goes_to_the_nearer_centre() -> None:
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [12.0, 0.0, 32.0, 20.0]])
    labels = BoxPostprocessing()(Detections(boxes, torch.ones(2)), (20, 32)).labels
    assert labels[10, [1, 15, 17, 30]].tolist() == [1, 1, 2, 2]


def test_parameters_choose_the_surest() -> None:
    def found(**parameters: float) -> Instances:
        return BoxPostprocessing(**parameters)(Detections(BOXES, SCORES), (40, 80))  # type: ignore[arg-type]

    # The first box overlaps the second, which is surer.
    assert found().scores == pytest.approx([0.9, 0.6])
    assert found(score_threshold=0.7).scores == pytest.approx([0.9])
    assert len(found(nms_threshold=0.95)) == 3
    assert len(found(min_area=300)) == 1 and len(found(score_threshold=0.95)) == 0
    for method in (BoxPostprocessing, MaskPostprocessing):
        for name, choices in method.choices.items():
            assert getattr(method(), name) in choices and list(choices) == sorted(choices)


def test_the_mask_threshold_shrinks_objects() -> None:
    mask = torch.full((1, 4, 4), 0.6)
    mask[:, 1:3, 1:3] = 0.9
    found = Detections(torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.ones(1), mask)
    for threshold, area in [(0.5, 16), (0.8, 4)]:
        labels = MaskPostprocessing(mask_threshold=threshold, min_area=1)(found, (6, 6)).labels
        assert (labels > 0).sum() == area


def test_a_detector_of_boxes_has_no_masks_to_paste(refused: Any) -> None:
    with refused("set model.init_args.postprocessing to karyon.detection.postprocessing.BoxPostprocessing."):
        MaskPostprocessing()(Detections(BOXES, SCORES), (40, 80))
