"""What became of each object, where a person would say the same."""

import numpy as np
import pytest
from hypothesis import given
from label_pairs import label_pairs

from karyon.inference.classical import Classical
from karyon.metrics.error_kinds import ErrorKinds, error_kinds


def boxes(*rows: tuple[int, int]) -> np.ndarray:
    """Objects of 10 px height from one column to another."""
    labels = np.zeros((12, 100), int)
    for number, (start, stop) in enumerate(rows, start=1):
        labels[1:11, start:stop] = number
    return labels


@pytest.mark.parametrize(
    ("true", "pred", "expected"),
    [
        (boxes((10, 30)), boxes((10, 30)), ErrorKinds(1, 0, 0, 0, 0, 0)),
        (boxes((10, 30)), boxes((10, 22)), ErrorKinds(0, 0, 0, 1, 0, 0)),
        (boxes((10, 30)), boxes(), ErrorKinds(0, 0, 0, 0, 1, 0)),
        (boxes((10, 30)), boxes((50, 70)), ErrorKinds(0, 0, 0, 0, 1, 1)),
        (boxes((10, 30)), boxes((10, 20), (20, 30)), ErrorKinds(0, 0, 1, 0, 0, 0)),
        (boxes((10, 20), (20, 30)), boxes((10, 30)), ErrorKinds(0, 2, 0, 0, 0, 0)),
        # A crumb beside an object that is found does not split it.
        (boxes((10, 30)), boxes((10, 28), (28, 30)), ErrorKinds(1, 0, 0, 0, 0, 0)),
        # A scrap that lies in it for the smaller part is false.
        (boxes((10, 30)), boxes((28, 40)), ErrorKinds(0, 0, 0, 0, 1, 1)),
    ],
)
def test_kinds(true: np.ndarray, pred: np.ndarray, expected: ErrorKinds) -> None:
    assert error_kinds(true, pred) == expected


@given(label_pairs())
def test_every_true_object_is_of_one_kind(pair: tuple[np.ndarray, np.ndarray]) -> None:
    kinds = error_kinds(*pair)
    assert sum(kinds[:5]) == len(np.unique(pair[0][pair[0] > 0]))
    assert error_kinds(pair[0], pair[0]).tight == sum(kinds[:5])


def discs(radius: int, *centres: tuple[int, int]) -> np.ndarray:
    rows, columns = np.mgrid[:100, :100]
    return np.any([(rows - y) ** 2 + (columns - x) ** 2 <= radius**2 for y, x in centres], axis=0)


def test_the_classical_baseline_parts_discs_that_touch() -> None:
    image = np.where(discs(10, (30, 30), (30, 46), (70, 70)), 200, 10).astype(np.uint8)
    found = Classical(20).segment(image)
    assert len(found) == 3
    assert len(np.unique(found.labels[30, [30, 46]])) == 2


def test_the_classical_baseline_finds_haematoxylin_and_not_eosin() -> None:
    image = np.full((100, 100, 3), 240, np.uint8)
    image[discs(10, (30, 30))] = (90, 60, 150)
    image[discs(10, (70, 70))] = (235, 120, 170)
    found = Classical(20).segment(image)
    assert found.labels[30, 30] and not found.labels[70, 70]


def test_the_classical_baseline_finds_nothing_in_an_even_image() -> None:
    assert len(Classical(20).segment(np.full((30, 30), 7, np.uint8))) == 0
