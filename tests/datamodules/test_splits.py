"""Splits: whole, stratified, repeatable, and never with one field of view on both sides."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.dsb2018 import SPLITS
from datamodules.splits import Member, hold_image_types_out, read_manifest, split, write_manifest
from karyon.errors import DataError
from karyon.io.reading import pixel_digest

FRACTIONS = {"val": 0.2, "test": 0.1, "train": 0.7}
STRATA = {"fluorescence": 0.7, "purple": 0.2, "brightfield": 0.1}


def members(count: int, group: int = 1) -> list[Member]:
    """Images of three strata; ``group`` neighbours share a field of view."""
    rng = np.random.default_rng(0)
    strata = rng.choice(list(STRATA), count, p=list(STRATA.values()))
    return [Member(f"{i:04d}", pixel_digest(np.array([i])), strata[i // group], f"g{i // group}") for i in range(count)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), max_size=60), st.integers(0, 2**32))
def test_a_split_is_complete_disjoint_stratified_and_keeps_groups_whole(
    images: list[tuple[str, int]], seed: int
) -> None:
    everything = [Member(str(i), "", stratum, f"{stratum}{group}") for i, (stratum, group) in enumerate(images)]
    parts = split(everything, FRACTIONS, seed)
    assert list(parts) == list(FRACTIONS)
    assert sorted(name for names in parts.values() for name in names) == sorted(member.name for member in everything)
    part_of = {name: part for part, names in parts.items() for name in names}
    sides: dict[str, set[str]] = {}
    for member in everything:
        sides.setdefault(member.group, set()).add(part_of[member.name])
    assert all(len(side) == 1 for side in sides.values())
    for stratum in "abc":
        inside = [member for member in everything if member.stratum == stratum]
        largest = max(Counter(member.group for member in inside).values(), default=0)
        held_out = sum(part_of[member.name] == "val" for member in inside)
        assert abs(held_out - FRACTIONS["val"] * len(inside)) < max(largest, 1)


def test_without_duplicates_every_share_is_right_to_the_image() -> None:
    everything = members(670)
    parts = split(everything, FRACTIONS, seed=42)
    for stratum in STRATA:
        names = {member.name for member in everything if member.stratum == stratum}
        for part, fraction in FRACTIONS.items():
            assert abs(len(names & set(parts[part])) - fraction * len(names)) <= 1


def test_a_group_that_spans_two_types_stays_together() -> None:
    everything = [
        Member(f"{i}{image_type}", "", image_type, f"g{i}") for i in range(20) for image_type in ("grey", "colour")
    ]
    everything += [Member(f"{i}", "", "grey", f"g{i}") for i in range(20, 60)]
    parts = split(everything, {"val": 0.3, "train": 0.7}, seed=0)
    assert split(everything[::-1], {"val": 0.3, "train": 0.7}, seed=0) == parts
    part_of = {name: part for part, names in parts.items() for name in names}
    assert all(part_of[f"{i}grey"] == part_of[f"{i}colour"] for i in range(20)) and parts["val"]


def test_a_split_follows_its_seed_alone() -> None:
    everything = members(100)
    assert split(everything, FRACTIONS, 1) == split(everything[::-1], FRACTIONS, 1)
    assert split(everything, FRACTIONS, 1) != split(everything, FRACTIONS, 2)


def test_one_more_image_moves_few_others() -> None:
    everything = [Member(f"{i:04d}", "", "a", str(i)) for i in range(200)]
    before = set(split(everything[1:], FRACTIONS, 1)["val"])
    after = set(split(everything, FRACTIONS, 1)["val"])
    assert len(before ^ after) <= 2


@pytest.mark.parametrize("fractions", [{"val": 0.2, "train": 0.7}, {"val": 1.2, "train": -0.2}])
def test_fractions_that_are_not_shares_are_refused_and_0_is_one(fractions: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="shares that sum to 1"):
        split(members(10), fractions, 1)
    parts = split(members(10), {"val": 0.0, "test": 0.0, "train": 1.0}, 1)
    assert {part: len(names) for part, names in parts.items()} == {"val": 0, "test": 0, "train": 10}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    everything = members(20)
    path = tmp_path / "splits" / "seed1.json"
    write_manifest(path, everything, split(everything, FRACTIONS, 1), {"seed": 1})
    return path


def test_a_manifest_comes_back_and_holds_every_digest(manifest: Path) -> None:
    everything = members(20)
    assert read_manifest(manifest, everything) == split(everything, FRACTIONS, 1)
    content = json.loads(manifest.read_text())
    digests = {name: digest for names in content["parts"].values() for name, digest in names.items()}
    assert digests == {member.name: member.digest for member in everything}
    assert all(len(digest) == 64 for digest in digests.values()) and content["seed"] == 1
    assert [path.name for path in manifest.parent.iterdir()] == ["seed1.json"], "no temporary file is left"


def test_a_manifest_of_other_data_is_refused(manifest: Path, refused: Callable) -> None:
    with refused(manifest, "0019", "is not in the data"):
        read_manifest(manifest, members(19))
    content = json.loads(manifest.read_text())
    first, other = (next(iter(content["parts"][part])) for part in ("val", "train"))
    for name, digest, sentence in (
        (first, content["parts"]["val"][first], ("is in two parts",)),
        (other, "0" * 64, ("other pixels", "new split")),
    ):
        changed = {**content["parts"], "train": {**content["parts"]["train"], name: digest}}
        manifest.write_text(json.dumps({**content, "parts": changed}))
        with refused(manifest, name, *sentence):
            read_manifest(manifest, members(20))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"parts": []}', '{"parts": {"val": 3}}', "\xff"])
def test_what_is_no_manifest_is_refused(text: str, tmp_path: Path, refused: Callable) -> None:
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with refused(tmp_path / "a.json", "not a split manifest", "delete it"):
        read_manifest(tmp_path / "a.json", members(3))


def test_a_manifest_that_cannot_be_read_or_written_is_named(tmp_path: Path, refused: Callable) -> None:
    with refused(tmp_path / "a.json", "No such file", "exists"):
        read_manifest(tmp_path / "a.json", members(3))
    (tmp_path / "file").touch()
    with refused(tmp_path / "file" / "a.json", "cache_dir"):
        write_manifest(tmp_path / "file" / "a.json", members(3), {"train": ["0000"]}, {"seed": 1})


def test_whole_image_types_are_held_out() -> None:
    everything = members(40)
    image_types = {member.stratum for member in everything}
    out = sorted(image_types)[0]
    parts = hold_image_types_out(everything, [out])
    assert set(parts["val"]) == {member.name for member in everything if member.stratum == out}
    assert sorted(parts["val"] + parts["train"]) == sorted(member.name for member in everything)
    with pytest.raises(DataError, match="No image is of the type x-ray"):
        hold_image_types_out(everything, ["x-ray"])
    with pytest.raises(DataError, match="none is left to train on"):
        hold_image_types_out(everything, sorted(image_types))


def test_the_validation_images_of_stardist_are_those_of_its_script() -> None:
    """Which of the 447, sorted and shuffled: the last 15 %. Nothing else is held out of them."""
    recorded = json.loads((SPLITS / "dsb2018-stardist.json").read_text())["parts"]
    names = sorted([*recorded["train"], *recorded["val"]])
    order = np.random.RandomState(42).permutation(447)
    assert sorted(recorded["val"]) == sorted(names[k] for k in order[-round(0.15 * 447) :])
    assert len(names) == len(order) and len(recorded["test"].keys() - {*names}) == 50
