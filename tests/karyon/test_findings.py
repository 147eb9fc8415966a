"""Each check finds what was put in, names it, and finds nothing where there is nothing."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from karyon.checks.findings import CHECKS, Finding, cut_share, duplicates, torn
from karyon.checks.image_facts import Facts, Refusal, examine
from karyon.layouts.protocol import Item
from karyon.preprocessing import PercentileNormalize

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


def grid(side: int) -> np.ndarray:
    """side * side objects of one pixel, each apart."""
    labels = np.zeros((2 * side + 1, 2 * side + 1), np.int64)
    labels[1::2, 1::2] = np.arange(1, side * side + 1).reshape(side, side)
    return labels


def begun_again(dtype: type[np.unsignedinteger]) -> np.ndarray:
    """Twenty objects more than there are numbers."""
    count = np.iinfo(dtype).max + 20
    labels = grid(int(np.ceil(np.sqrt(count))))
    return np.where(labels > count, 0, labels).astype(dtype)


GREY, COLOUR = RNG.integers(0, 255, (2, 40, 50), np.uint8)
ONE, NOTHING = np.where(GOOD == 2, 1, 0), np.zeros_like(GOOD)
SHARED = np.where(GOOD == 4, 1, GOOD)
# Of its four objects, one is cut twice, one on the left and one below.
CUT = GOOD[5:38, 10:]


@pytest.mark.parametrize(
    ("kind", "severity", "odd", "text", "images"),
    [
        ("mask", "error", "b", "", {"a": GOOD, "b": GOOD > 0}),
        ("mask", "error", "b", "", {"a": GOOD, "b": (GOOD > 0) * 255}),
        # The two that touch belong to different classes: each class covers two regions.
        ("mask", "error", "b", "", {"a": GOOD, "b": np.array([0, 1, 1, 2, 2])[GOOD]}),
        ("single-object", "hint", "b", "", {"a": GOOD, "b": ONE * 255}),
        ("single-object", "hint", "abc", "", dict.fromkeys("abc", ONE)),
        (
            *("torn", "hint", "bc", "several separate regions, 2 in all (labels of b, labels of c)"),
            {"a": GOOD, "b": SHARED, "c": SHARED * 7},
        ),
        ("wrapped", "error", "b", "", {"a": GOOD, "b": begun_again(np.uint8)}),
        ("wrapped", "error", "b", "", {"a": GOOD, "b": begun_again(np.uint16)}),
        ("empty", "hint", "b", "", {"a": GOOD, "b": NOTHING}),
        ("empty", "error", "ab", "no other has one", {"a": NOTHING, "b": NOTHING}),
        ("many-objects", "hint", "a", "1 label image with more than 65,535 objects", {"a": grid(256)}),
        # The first that single precision does not hold.
        ("ids", "error", "a", "", {"a": np.where(GOOD == 2, 2**24 + 1, GOOD)}),
        ("unknown", "hint", "b", "(-1), 20% of them", {"a": GOOD, "b": np.where(np.arange(50) < 40, GOOD, -1)}),
        ("border", "hint", "ac", "58% of all objects", {"a": CUT, "b": GOOD[5:], "c": CUT}),
    ],
)
def test_what_is_wrong_with_label_images(
    kind: str, severity: str, odd: str, text: str, images: dict[str, np.ndarray]
) -> None:
    found = only([known(name, labels) for name, labels in images.items()])
    assert (*found[:2], found[3]) == (kind, severity, tuple(odd)) and text in found[2]


@pytest.mark.parametrize(
    "images",
    [
        {"a": GOOD, "b": ONE},
        {"a": None},
        {"a": grid(255)},
        {"a": np.where(GOOD == 2, 2**24, GOOD)},
        {"a": CUT, "b": GOOD},
    ],
    ids=["one object", "no labels", "16 bit", "large ids", "few cut"],
)
def test_what_is_right_with_label_images(images: dict[str, np.ndarray | None]) -> None:
    assert find([known(name, labels) for name, labels in images.items()]) == []


def test_shares_of_the_border_and_regions_that_meet_at_a_corner() -> None:
    assert cut_share([known("a", CUT), known("b")]) == 3 / 8 and cut_share([]) == 0
    assert torn([known("a", np.int32([[1, 0, 2], [0, 1, 0]]))]) == []


@pytest.mark.parametrize(
    ("kind", "text", "images"),
    [
        (
            *("channels", "1 image in colour where 2 are grey (b): "),
            {"b": np.dstack([COLOUR, COLOUR, GREY]), "c": np.dstack([GREY] * 3)},
        ),
        (
            "bit-depth",
            "1 image of uint16 where 2 are of uint8 (b): ",
            {"b": GREY.astype(np.uint16) * 257},
        ),
        ("constant", "1 image of one value throughout (b): ", {"b": np.full((40, 50), 9, np.uint8)}),
    ],
)
def test_what_is_odd_about_images(kind: str, text: str, images: dict[str, np.ndarray]) -> None:
    found = only([known(name, GOOD, images.get(name)) for name in "abc"])
    assert (*found[:2], found[3]) == (kind, "hint", ("b",)) and found[2].startswith(text)


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
