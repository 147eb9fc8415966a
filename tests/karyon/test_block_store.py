"""Blocks that are done are not done again, and never taken for those of another image or another way."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from round_trip import METHODS, Labels, separate_ellipses

from karyon.inference.block_store import BlockStore
from karyon.inference.blocks import Block, Blocks, Find, Found, Threads
from karyon.instances import Instances
from karyon.representations.foreground.postprocessing import ForegroundPostprocessing

BLOCKS = Blocks(32, halo=16, align=16)


class Looks:
    """Finds objects in blocks of a label image, and remembers in which; it is stopped after some."""

    def __init__(self, labels: Labels, most: int = 1000) -> None:
        self.maps, self.most = METHODS["foreground"].maps(labels), most
        self.size = self.maps.shape[1], self.maps.shape[2]
        self.seen: list[Block] = []

    def __call__(self, block: Block) -> Found:
        if len(self.seen) >= self.most:
            raise KeyboardInterrupt
        self.seen.append(block)
        find, part = ForegroundPostprocessing(min_area=1), self.maps[(slice(None), *block.region)]
        return find.probability(part), find(part)


def same(one: Found, other: Found) -> bool:
    arrays = [(found[0], found[1].labels, found[1].scores, found[1].boxes) for found in (one, other)]
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(*arrays, strict=True))


@settings(max_examples=20)
@given(separate_ellipses(), st.integers(0, 8), st.sampled_from([1, 2]))
def test_stopped_anywhere_it_goes_on_with_what_is_missing(
    tmp_path_factory: pytest.TempPathFactory, labels: Labels, stop: int, at_once: int
) -> None:
    store, blocks = BlockStore(tmp_path_factory.mktemp("store"), "a"), Blocks(32, 16, 16).by(Threads(at_once))
    whole, first, second = Looks(labels), Looks(labels, stop), Looks(labels)
    expected = blocks.find(whole.size, whole, probability=True)
    with suppress(KeyboardInterrupt):
        blocks.find(first.size, first, probability=True, once=store.once)
    assert same(blocks.find(second.size, second, probability=True, once=store.once), expected)
    # Each block once.
    assert sorted(block.share for block in first.seen + second.seen) == sorted(block.share for block in whole.seen)
    store.clear()
    assert not store.folder.exists()


@pytest.mark.parametrize("damage", [b"", b"PK\3\4", None])
def test_a_damaged_file_is_found_again(tmp_path: Path, damage: bytes | None) -> None:
    store, looks = BlockStore(tmp_path, "a"), Looks(np.pad(np.ones((8, 8), int), 30))
    expected = BLOCKS.find(looks.size, looks, True, once=store.once)
    path = sorted(tmp_path.rglob("*.npz"))[0]
    path.write_bytes(path.read_bytes()[:-30] if damage is None else damage)
    assert same(BLOCKS.find(looks.size, looks, True, once=store.once), expected) and len(looks.seen) == 10


def test_what_was_found_under_another_key_is_not_taken(tmp_path: Path) -> None:
    empty = np.zeros((20, 20), np.int32)
    calls: list[BlockStore] = []
    stores = [BlockStore(tmp_path, "a"), BlockStore(tmp_path, "b"), BlockStore(tmp_path, "a").of("b")]
    stores += [stores[0].of(1), stores[0].of("1"), stores[0].of(1).of(2), stores[0].of(1, 2)]

    def find(store: BlockStore) -> Find:
        return lambda block: calls.append(store) or (None, Instances.from_labels(empty))

    for store in [*stores, *stores]:
        assert store.once(find(store), Block.around((slice(0, 20), slice(0, 20)), 0, (20, 20)))[0] is None
    assert calls == stores


def test_one_block_is_not_kept(tmp_path: Path) -> None:
    looks = Looks(np.ones((20, 20), int))
    BLOCKS.find(looks.size, looks, once=BlockStore(tmp_path, "a").once)
    assert not list(tmp_path.iterdir())
