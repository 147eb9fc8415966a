"""Each check finds what was put in, names it, and finds nothing where there is nothing."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from datamodules.base import Item
from datamodules.checks import CHECKS, Finding, cut_share, duplicates, torn
from datamodules.survey import Facts, Refusal, examine
from datamodules.transforms import PercentileNormalize

RNG = np.random.default_rng(0)
# Four objects, two of which touch each other.
GOOD = np.zeros((40, 50), np.int32)
GOOD[5:15, 5:15], GOOD[20:30, 10:20], GOOD[20:30, 20:30], GOOD[33:38, 40:45] = 1, 2, 3, 4


def known(name: str, labels: np.ndarray | None = GOOD, pixels: np.ndarray | None = None, part: str = "train") -> Facts:
    """What is known of an image; of noise, if nothing else is given."""
    if pixels is None:
        pixels = RNG.integers(0, 255, (40, 50) if labels is None else labels.shape, np.uint8)
    facts = examine(part, Item(name, "", lambda: (pixels, labels)), PercentileNormalize())
    return replace(facts, labels=f"labels of {name}")


def find(images: Sequence[Facts]) -> list[Finding]:
    return [found for look in CHECKS for found in look(images)]


def only(images: Sequence[Facts]) -> tuple[str, str, str, tuple[str, ...]]:
    """The one finding on some images."""
    (found,) = find(images)
    assert found.sentence.endswith(".") and "\n" not in found.sentence
    return found.kind, found.severity, found.sentence, found.images


def test_a_good_data_set_has_no_finding() -> None:
    assert find([known(str(k), np.roll(GOOD, k) if k else GOOD) for k in range(5)]) == []
    assert find([]) == []


def test_refusals_are_gathered_by_cause() -> None:
    refused = [
        Facts("train", f"{k}.png", f"{k}.tif", Refusal(f"{k}.png is cut short: copy it.", "a:1")) for k in range(6)
    ]
    other = Facts("train", "x.png", "", Refusal("x.png is a colour image: save it.", "b:2"))
    first, second = find([*refused, other, known("good")])
    assert first.sentence == "0.png is cut short: copy it; so it is with 5 more (1.png, 2.png, 3.png and 2 more)."
    assert first.images == tuple(f"{k}.png" for k in range(6)) and first.severity == "error"
    assert second.sentence == "x.png is a colour image: save it."
    # Of the two files that the sentences are about.
    labels = [replace(facts, refusal=Refusal(f"{facts.labels} is empty: copy it.", "c:3")) for facts in refused[:2]]
    assert find(labels)[0].sentence == "0.tif is empty: copy it; so it is with 1 more (1.tif)."


def test_other_sizes() -> None:
    pixels = RNG.integers(0, 255, (40, 50), np.uint8)
    kind, severity, sentence, images = only(
        [known("a"), known("b", GOOD[:-1], pixels[::-1]), known("c", GOOD.T, pixels)]
    )
    assert (kind, severity, images) == ("size", "error", ("b", "c"))
    assert sentence.startswith(
        "2 label images of another size than the image (labels of b 39 x 50 px, the image 40 x 50 px, "
        "labels of c 50 x 40 px, the image 40 x 50 px): "
    )


@pytest.mark.parametrize("white", [1, 255])
def test_masks_of_the_foreground(white: int) -> None:
    kind, severity, _, images = only([known("a"), known("b", (GOOD > 0) * white)])
    assert (kind, severity, images) == ("mask", "error", ("b",))


def test_masks_of_classes() -> None:
    classes = np.array([0, 1, 1, 2, 2])[GOOD]
    # The two that touch belong to different classes: each class covers two regions.
    assert only([known("a"), known("b", classes)])[::3] == ("mask", ("b",))


def test_one_object_is_suspicious_in_white_or_everywhere() -> None:
    one = np.where(GOOD == 2, 1, 0)
    assert find([known("a"), known("b", one)]) == []
    assert only([known("a"), known("b", one * 255)])[::3] == ("single-object", ("b",))
    assert only([known(name, one) for name in "abc"])[::3] == ("single-object", ("a", "b", "c"))


def test_ids_that_cover_several_regions() -> None:
    shared = np.where(GOOD == 4, 1, GOOD)
    kind, severity, sentence, images = only([known("a"), known("b", shared), known("c", shared * 7)])
    assert (kind, severity, images) == ("torn", "hint", ("b", "c"))
    assert "several separate regions, 2 in all (labels of b, labels of c)" in sentence


def test_regions_that_meet_at_a_corner_are_one() -> None:
    assert torn([known("a", np.int32([[1, 0, 2], [0, 1, 0]]))]) == []


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_numbers_that_began_again(dtype: type[np.unsignedinteger]) -> None:
    count = np.iinfo(dtype).max + 20
    side = int(np.ceil(np.sqrt(count)))
    labels = np.zeros((2 * side, 2 * side), np.int64)
    labels[::2, ::2] = np.arange(1, side * side + 1).reshape(side, side)
    labels[labels > count] = 0
    kind, severity, _, images = only([known("a"), known("b", labels.astype(dtype))])
    assert (kind, severity, images) == ("wrapped", "error", ("b",))


def test_empty_label_images() -> None:
    nothing = np.zeros_like(GOOD)
    assert only([known("a"), known("b", nothing)])[::3] == ("empty", ("b",))
    assert only([known("a"), known("b", nothing)])[1] == "hint"
    kind, severity, sentence, _ = only([known("a", nothing), known("b", nothing)])
    assert (kind, severity) == ("empty", "error") and "no other has one" in sentence
    assert find([known("a", None)]) == []


def grid(side: int) -> np.ndarray:
    """side * side objects of one pixel, each apart."""
    labels = np.zeros((2 * side + 1, 2 * side + 1), np.int64)
    labels[1::2, 1::2] = np.arange(1, side * side + 1).reshape(side, side)
    return labels


def test_more_objects_than_16_bit_number() -> None:
    assert find([known("a", grid(255))]) == []
    kind, severity, sentence, _ = only([known("a", grid(256))])
    assert (kind, severity) == ("many-objects", "hint") and "1 label image with more than 65,535 objects" in sentence


def test_ids_that_augmentation_cannot_tell_apart() -> None:
    assert find([known("a", np.where(GOOD == 2, 2**24, GOOD))]) == []
    assert only([known("a", np.where(GOOD == 2, 2**24 + 1, GOOD))])[:2] == ("ids", "error")
    # Or else there were nothing to say.
    assert np.float32(2**24 + 1) == np.float32(2**24)


def test_most_objects_cut_by_the_border() -> None:
    # At object 1 on two sides, at 2 on the left and at 4 below.
    cut = GOOD[5:38, 10:]
    assert cut_share([known("a", cut), known("b")]) == 3 / 8 and cut_share([]) == 0
    assert find([known("a", cut), known("b")]) == []
    kind, severity, sentence, images = only([known("a", cut), known("b", GOOD[5:]), known("c", cut)])
    assert (kind, severity, images) == ("border", "hint", ("a", "c")) and "58% of all objects" in sentence


def test_grey_and_colour() -> None:
    grey, colour = RNG.integers(0, 255, (2, 40, 50), np.uint8)
    images = [known("a"), known("b", GOOD, np.dstack([grey] * 3)), known("c", GOOD, np.dstack([colour, colour, grey]))]
    kind, severity, sentence, odd = only(images)
    assert (kind, severity, odd) == ("channels", "hint", ("c",))
    assert sentence.startswith("1 image in colour where 2 are grey (c): ")


def test_bit_depths() -> None:
    deep = RNG.integers(0, 60000, (40, 50), np.uint16)
    kind, severity, sentence, odd = only([known("a"), known("b", GOOD, deep), known("c")])
    assert (kind, severity, odd) == (
        "bit-depth",
        "hint",
        ("b",),
    ) and "1 image of uint16 where 2 are of uint8 (b): " in sentence


def test_images_of_one_value() -> None:
    assert only([known("a"), known("b", GOOD, np.full((40, 50), 9, np.uint8))])[::3] == ("constant", ("b",))


def test_one_field_of_view_in_two_parts_or_twice_in_one() -> None:
    a, b = RNG.integers(0, 255, (2, 40, 50), np.uint8)
    images = [
        known("a", GOOD, a, "train"),
        known("a16", GOOD, a.astype(np.uint16) * 257, "test"),
        known("b", GOOD, b, "train"),
        known("b/2", GOOD, b // 2, "train"),
        known("c", GOOD, part="val"),
    ]
    leak, twice = duplicates(images)
    assert (leak.kind, leak.severity, leak.images) == ("leak", "error", ("a", "a16"))
    assert leak.sentence.startswith("2 images of 1 field of view in several parts of the split")
    assert "(a in train = a16 in test):" in leak.sentence
    assert (twice.kind, twice.severity, twice.images) == ("duplicate", "hint", ("b", "b/2"))
    assert duplicates(images[::2]) == []
