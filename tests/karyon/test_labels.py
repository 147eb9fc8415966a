"""Label images: renumbering and run lengths."""

from collections.abc import Callable

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco
from skimage.measure import label as components

from karyon.instances import Instances, without_crumbs
from karyon.labels import decode_run_lengths, encode_objects, encode_run_lengths, relabel

SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)
# Ids are few, so that objects are large and torn; one is far from the others.
LABELS = arrays.arrays(np.int32, SHAPES, elements=st.sampled_from([0, 0, 1, 2, 5, 6, 2**31 - 1]))
MASKS = arrays.arrays(np.bool_, SHAPES)

Objects = set[frozenset[int]]


def objects(labels: np.ndarray) -> Objects:
    """Each object as the set of its pixels."""
    flat = labels.ravel()
    return {frozenset(np.flatnonzero(flat == k).tolist()) for k in np.unique(flat[flat != 0])}


@given(LABELS)
def test_relabel_renumbers_without_gaps_and_keeps_objects_and_order(labels: np.ndarray) -> None:
    new = relabel(labels)
    assert new.dtype == np.int64 and new.shape == labels.shape
    assert sorted(set(new.ravel()) - {0}) == list(range(1, new.max() + 1))
    assert objects(new) == objects(labels)
    pairs = sorted(set(zip(labels.ravel().tolist(), new.ravel().tolist(), strict=True)))
    assert [new_id for _, new_id in pairs] == sorted(new_id for _, new_id in pairs)


@given(LABELS, st.integers(1, 6))
def test_relabel_drops_exactly_the_smaller_objects(labels: np.ndarray, min_area: int) -> None:
    kept = objects(relabel(labels, min_area=min_area))
    assert kept == {pixels for pixels in objects(labels) if len(pixels) >= min_area}


@given(LABELS, st.integers(1, 3))
def test_relabel_splits_every_object_into_its_components(labels: np.ndarray, min_area: int) -> None:
    fragments: Objects = set()
    for k in set(labels.ravel().tolist()) - {0}:
        fragments |= objects(components(labels == k, connectivity=2))
    new = relabel(labels, min_area=min_area, split=True)
    assert objects(new) == {pixels for pixels in fragments if len(pixels) >= min_area}
    assert new.max() == len(objects(new))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int64, np.uint64])
def test_relabel_takes_every_integer_type(dtype: type) -> None:
    labels = np.array([[0, 1], [1, 0]], dtype=dtype)
    assert relabel(labels, min_area=2).tolist() == [[0, 1], [1, 0]] and relabel(labels, min_area=3).max() == 0
    assert labels.tolist() == [[0, 1], [1, 0]], "the input is left alone"


@given(MASKS)
def test_run_lengths_round_trip(mask: np.ndarray) -> None:
    text = encode_run_lengths(mask)
    assert (text == "") == (not mask.any())
    if text:
        positions = decode_run_lengths(text, mask.shape)
        assert positions.tolist() == np.flatnonzero(mask.ravel(order="F")).tolist()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@given(MASKS)
def test_run_lengths_say_what_pycocotools_counts(mask: np.ndarray) -> None:
    """COCO counts the pixels of the gaps and runs in turn, in the same order of pixels."""
    numbers = np.array(encode_run_lengths(mask).split(), dtype=int).reshape(-1, 2)
    borders = np.column_stack([numbers[:, 0] - 1, numbers.sum(1) - 1]).ravel()
    counts = np.diff(np.concatenate([[0], borders, [mask.size]])).tolist()
    encoded = coco.frPyObjects({"size": mask.shape, "counts": counts}, *mask.shape)
    assert np.array_equal(coco.decode(encoded), mask)


@given(LABELS)
def test_all_objects_are_encoded_as_each_alone(labels: np.ndarray) -> None:
    ids = [k for k in np.unique(labels) if k]
    assert encode_objects(labels) == [encode_run_lengths(labels == k) for k in ids]


@pytest.mark.parametrize(
    "text", ["", "3", "1 2 3", "a b", "1.5 2", "0 4", "1 0", "-1 3", "99999999999999999999 1", "1 -1"]
)
def test_what_is_no_run_length_code_is_refused(text: str, refused: Callable) -> None:
    with refused("run-length code", f"'{text}'", "start length"):
        decode_run_lengths(text, (4, 4))


@pytest.mark.parametrize("text", ["17 1", "16 2", "1 17", "9223372036854775807 5", "5 9223372036854775807"])
def test_a_run_that_leaves_the_image_is_refused(text: str, refused: Callable) -> None:
    with refused(text, "leaves", "4 x 4 px"):
        decode_run_lengths(text, (4, 4))
    assert decode_run_lengths("16 1", (4, 4)).tolist() == [15]


@given(LABELS, st.floats(0, 1), st.data())
def test_crumbs_are_small_and_unsure_and_nothing_else_is_changed(
    labels: np.ndarray, share: float, data: st.DataObject
) -> None:
    labels = relabel(labels).astype(np.int32)
    count = int(labels.max())
    scores = np.array(data.draw(st.lists(st.sampled_from([0.5, 0.9]), min_size=count, max_size=count)))
    before = Instances.from_labels(labels.copy(), scores)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("karyon.labels.BAND", 2)
        after = without_crumbs(Instances.from_labels(labels.copy(), scores), share, 0.8)
    area = np.bincount(labels.ravel())[1:]
    # Pixel by pixel in order of their objects' areas, the one in the middle is in an object of the typical area.
    pixels = np.sort(np.repeat(area, area))
    typical = pixels[(len(pixels) - 1) // 2] if len(pixels) else 0
    kept = np.flatnonzero((area >= share * typical) | (before.scores >= 0.8))
    assert objects(after.labels) == {frozenset(np.flatnonzero(labels.ravel() == k + 1).tolist()) for k in kept}
    again = Instances.from_labels(after.labels, before.scores[kept])
    assert np.array_equal(after.boxes, again.boxes) and np.array_equal(after.scores, again.scores)
