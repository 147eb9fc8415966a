"""What is known of an image before training: its objects, its looks, and why it cannot be used."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from datamodules.drawing import draw_nuclei
from karyon.checks.image_facts import examine, measure_objects, pattern, survey
from karyon.io.reading import read_image, read_labels
from karyon.layouts.protocol import Item
from karyon.preprocessing import PercentileNormalize, ScaleToUnit

NUCLEI, LABELS = draw_nuclei(np.random.default_rng(0), (96, 128), "fluorescence")
GREY = NUCLEI[..., 0]
IDS = [0, 1, 2, 2**31 - 1]


def item(pixels: np.ndarray, labels: np.ndarray | None = None) -> Item:
    return Item("a", "", lambda: (pixels, labels))


def correlation(one: np.ndarray | None, other: np.ndarray | None) -> float:
    assert other is not None
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@given(hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from(IDS)))
def test_objects_are_measured_as_one_by_one(labels: np.ndarray) -> None:
    objects = measure_objects(labels)
    ids = [int(k) for k in np.unique(labels) if k]
    assert objects.ids.tolist() == ids
    for row, k in enumerate(ids):
        mask = labels == k
        rows, columns = np.nonzero(mask)
        inner = np.zeros_like(mask)
        inner[1:-1, 1:-1] = mask[1:-1, 1:-1]
        assert objects.areas[row] == mask.sum()
        assert objects.sides[row].tolist() == [np.ptp(rows) + 1, np.ptp(columns) + 1]
        assert objects.pieces[row] == cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1
        assert objects.cut[row] == (mask != inner).any()


@pytest.mark.parametrize(
    "saved",
    [
        NUCLEI,
        GREY.astype(np.uint16) * 257,
        GREY.astype(np.float32) / 255,
        GREY // 3 + 20,
        GREY.astype(np.int64),
        cv2.imdecode(cv2.imencode(".jpg", GREY, [cv2.IMWRITE_JPEG_QUALITY, 75])[1], cv2.IMREAD_GRAYSCALE),
    ],
    ids=["three channels", "16 bit", "float", "less contrast", "64 bit", "jpeg"],
)
def test_an_image_is_known_again_however_it_was_saved(saved: np.ndarray) -> None:
    assert correlation(pattern(GREY), pattern(saved)) > 0.98


def test_different_images_are_told_apart_although_their_light_is_the_same() -> None:
    light = 150 * np.exp(-(np.mgrid[-1:1:96j, -1:1:128j] ** 2).sum(axis=0))
    fields = [draw_nuclei(np.random.default_rng(k), (96, 128), "fluorescence")[0][..., 0] for k in (1, 2)]
    lit = [light + field / 8 for field in fields]
    # By their pixels they would pass for one.
    assert np.corrcoef(lit[0].ravel(), lit[1].ravel())[0, 1] > 0.9
    assert correlation(pattern(lit[0]), pattern(lit[1])) < 0.5


def test_an_image_that_is_not_finite_has_no_pattern() -> None:
    spoiled = GREY.astype(np.float32)
    spoiled[50, 60] = np.nan
    assert pattern(spoiled) is None
    assert pattern(np.full((1, 50), 3.0)) is not None


def test_an_image_is_described() -> None:
    facts = examine("train", item(NUCLEI, LABELS), ScaleToUnit())
    assert (facts.part, facts.image, facts.labels, facts.refusal) == ("train", "a", "a", None)
    assert (facts.size, facts.channels, facts.dtype, facts.constant) == ((96, 128), 1, "uint8", False)
    assert facts.labels_size == (96, 128) and len(facts.objects) == LABELS.max()
    dark = examine("test", item(np.zeros((4, 5, 3), np.uint16)), ScaleToUnit())
    assert (dark.channels, dark.dtype, dark.constant, dark.objects, dark.labels_size) == (1, "uint16", True, None, None)
    assert examine("", item(NUCLEI * np.uint8([1, 0, 1])), ScaleToUnit()).channels == 3


def test_what_the_readers_and_the_normalisation_refuse_is_kept_by_its_cause(tmp_path: Path) -> None:
    def refusal(read: Callable[[], tuple[np.ndarray, None]]) -> tuple[str, str]:
        found = examine("", Item("a", "", read), ScaleToUnit()).refusal
        assert found
        return found.sentence, found.cause

    for name in ("empty.png", "empty.tif"):
        (tmp_path / name).touch()
    cv2.imwrite(str(tmp_path / "mask.png"), np.uint8([[1, 0, 1]]))
    sentences, causes = zip(
        refusal(lambda: (read_image(tmp_path / "empty.png"), None)),
        refusal(lambda: (read_labels(tmp_path / "empty.tif"), None)),
        refusal(lambda: (read_labels(tmp_path / "mask.png"), None)),
        refusal(lambda: (np.float32([[2]]), None)),
        refusal(lambda: (np.float32([[np.nan]]), None)),
        strict=True,
    )
    assert sentences[0] == f"{tmp_path / 'empty.png'} is empty (0 bytes): copy or download it again."
    assert sentences[3].startswith("a: float pixels from 2 to 2 are outside [0, 1]")
    assert causes[0] == causes[1] and len(set(causes)) == 4


def test_a_data_set_is_surveyed_in_order_part_by_part() -> None:
    def read(k: int) -> tuple[np.ndarray, None]:
        return np.full((k + 1, 2), k, np.uint8), None

    items = [Item(str(k), "", partial(read, k)) for k in range(40)]
    found = list(survey({"train": items[:30], "val": items[30:], "test": []}, PercentileNormalize()))
    assert [(facts.image, facts.size[0]) for facts in found] == [(str(k), k + 1) for k in range(40)]
    assert [facts.part for facts in found] == ["train"] * 30 + ["val"] * 10
