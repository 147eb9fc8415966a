"""From boxes and masks that may overlap to a label image."""

import math

import pytest
import torch

from datamodules.sample import DataError
from lightning_modules.detection_decoders import BoxDecoder, MaskDecoder
from lightning_modules.detections import Detections

BOXES = torch.tensor([[10.0, 10.0, 50.0, 30.0], [11.0, 10.0, 50.0, 31.0], [60.0, 5.0, 70.0, 35.0]])
SCORES = torch.tensor([0.8, 0.9, 0.6])


def test_boxes_are_filled_with_their_ellipses() -> None:
    instances = BoxDecoder()(Detections(BOXES[[0, 2]], SCORES[[0, 2]]), (40, 80))
    # The pixels at an ellipse's four ends have their centres outside.
    assert (instances.boxes - BOXES[[0, 2]]).abs().max() <= 1
    assert instances.scores.tolist() == pytest.approx([0.8, 0.6])
    for k, (width, height) in enumerate([(40, 20), (10, 30)], start=1):
        assert (instances.labels == k).sum().item() == pytest.approx(math.pi / 4 * width * height, rel=0.02)


def test_a_pixel_of_two_ellipses_goes_to_the_nearer_centre() -> None:
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [12.0, 0.0, 32.0, 20.0]])
    labels = BoxDecoder()(Detections(boxes, torch.ones(2)), (20, 32)).labels
    assert labels[10, [1, 15]].tolist() == [1, 1]
    assert labels[10, [17, 30]].tolist() == [2, 2]


def test_knobs_choose_the_surest() -> None:
    found = Detections(BOXES, SCORES)
    # The first box overlaps the second, which is surer.
    assert BoxDecoder()(found, (40, 80)).scores.tolist() == pytest.approx([0.9, 0.6])
    assert BoxDecoder(score_threshold=0.7)(found, (40, 80)).scores.tolist() == pytest.approx([0.9])
    assert len(BoxDecoder(min_area=300)(found, (40, 80))) == 1
    assert len(BoxDecoder(score_threshold=0.95)(found, (40, 80))) == 0


def test_the_mask_threshold_shrinks_objects() -> None:
    mask = torch.full((1, 4, 4), 0.6)
    mask[:, 1:3, 1:3] = 0.9
    found = Detections(torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.ones(1), mask)
    areas = [int((MaskDecoder(mask_threshold=t, min_area=1)(found, (6, 6)).labels > 0).sum()) for t in (0.5, 0.8)]
    assert areas == [16, 4]


def test_a_detector_of_boxes_has_no_masks_to_decode() -> None:
    with pytest.raises(DataError, match=r"set model.init_args.decoder to lightning_modules.*BoxDecoder\.$"):
        MaskDecoder()(Detections(BOXES, SCORES), (40, 80))
