"""The sizes of objects against crops, anchors and what is dropped."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import box_iou

from karyon.checks.findings import Finding
from karyon.checks.image_facts import Facts, examine
from karyon.checks.object_sizes import (
    View,
    anchor_fit,
    crowded_images,
    large_objects,
    shrunk_objects,
    small_objects,
    unanchored_objects,
)
from karyon.layouts.protocol import Item
from karyon.preprocessing import ScaleToUnit


def item(name: str, height: int, width: int, *sides: tuple[int, int]) -> Item:
    """An image with objects of certain heights and widths, side by side."""
    labels = np.zeros((height, width), np.int32)
    left = 0
    for number, (h, w) in enumerate(sides, start=1):
        labels[:h, left : left + w] = number
        left += w
    assert left <= width
    return Item(name, "", lambda: (np.zeros((height, width), np.uint8), labels))


def known(*items: Item) -> list[Facts]:
    return [examine("train", item, ScaleToUnit()) for item in items]


def only(findings: Sequence[Finding]) -> tuple[str, tuple[str, ...], str]:
    (found,) = findings
    assert found.severity == "hint" and found.sentence.endswith(".")
    return found.kind, found.images, found.sentence


def test_small_objects() -> None:
    images = known(item("a", 50, 50, (2, 4), (9, 9)), item("b", 50, 50, (1, 7), (2, 3)), item("c", 50, 50))
    kind, names, sentence = only(small_objects(images, View()))
    assert (kind, names) == ("small-objects", ("b",)) and "less than 8 px, which training drops, 2 in all" in sentence
    assert small_objects(images, View(min_area=6)) == []
    # A quarter of each area remains.
    assert only(small_objects(images, View(image_size=(25, 25))))[1] == ("a", "b")
    assert small_objects(images, View(image_size=(25, 50), min_area=3)) == []


def test_objects_larger_than_a_crop() -> None:
    images = known(item("a", 50, 100, (20, 40)), item("b", 50, 100, (21, 40), (20, 41), (2, 2)))
    assert large_objects(images, View()) == [] and large_objects(images, View(crop=(21, 41))) == []
    kind, names, sentence = only(large_objects(images, View(crop=(20, 40))))
    assert (kind, names) == ("crop", ("b",)) and "a crop of 20 x 40 px, 2 in all" in sentence
    assert large_objects(images, View(image_size=(25, 50), crop=(11, 21))) == []
    assert only(large_objects(images, View(image_size=(25, 50), crop=(10, 50))))[1] == ("b",)


def test_objects_shrunk_into_crops_of_one_size() -> None:
    few = known(item("few", 100, 1000, (85, 2), *[(9, 9)] * 20))
    many = known(item("many", 100, 1000, (85, 2), *[(9, 9)] * 18))
    # 85 px and a quarter on each side make 127.5, twice 64 is 128.
    assert shrunk_objects(many, (64, 64), 0.25) == []
    assert shrunk_objects(few, (63, 63), 0.25) == []
    kind, names, sentence = only(shrunk_objects(many, (63, 63), 0.25))
    assert (kind, names) == ("crop-size", ("many",)) and "5% of all" in sentence


@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(1, 200)), min_size=1, max_size=5),
    st.lists(st.integers(4, 160), min_size=1, max_size=3, unique=True),
)
def test_anchors_fit_as_torchvision_says(sides: list[tuple[int, int]], sizes: list[int]) -> None:
    ratios = (0.5, 1.0, 2.0)
    centred = AnchorGenerator().generate_anchors(sizes, ratios)
    # Torchvision rounds half the sides; here they are given as it has them.
    anchors = torch.stack([centred[:, 3] - centred[:, 1], centred[:, 2] - centred[:, 0]], dim=1)
    boxes = torch.tensor([[-w / 2, -h / 2, w / 2, h / 2] for h, w in sides])
    expected = box_iou(boxes, centred).max(dim=1).values
    assert np.allclose(anchor_fit(np.array(sides), anchors.double().numpy()), expected.numpy(), atol=1e-5)


def test_objects_that_no_anchor_fits() -> None:
    # A square of 8 px covers a quarter of one of 16 px, and half of 16 x 8 px, which is just enough.
    images = known(item("a", 50, 50, (16, 16)), item("b", 50, 50, (16, 16), (8, 8), (16, 8)))
    assert only(unanchored_objects(images, [16], [1.0], View()))[1] == ("b",)
    kind, names, sentence = only(unanchored_objects(images, [8], [1.0], View()))
    assert (kind, names) == ("anchors", ("a", "b")) and "50% of all objects, their longer sides 16 to 16 px" in sentence
    assert unanchored_objects(images, [8, 16], [1.0], View()) == []
    assert only(unanchored_objects(images, [8], [1.0], View(image_size=(25, 25))))[1] == ("b",)
    # A ratio is height to width.
    assert AnchorGenerator().generate_anchors([16], [4.0]).tolist() == [[-4, -16, 4, 16]]
    tall = known(item("tall", 50, 50, (32, 8)))
    assert unanchored_objects(tall, [16], [4.0], View()) == []
    assert unanchored_objects(tall, [16], [0.25, 1.0], View()) != []


def test_more_objects_than_a_detector_finds() -> None:
    images = known(item("a", 9, 9, (1, 1), (1, 1)), item("b", 9, 9, (1, 1), (1, 1), (1, 1)))
    assert crowded_images(images, 3) == []
    assert only(crowded_images(images, 2))[:2] == ("detections", ("b",))


@pytest.mark.parametrize("height, width", [(10, 40), (40, 10)])
def test_scale_is_of_height_and_width(height: int, width: int) -> None:
    (facts,) = known(item("a", height, width))
    assert View(image_size=(20, 20)).scale(facts).tolist() == [20 / height, 20 / width]
    assert View().scale(facts).tolist() == [1, 1]
