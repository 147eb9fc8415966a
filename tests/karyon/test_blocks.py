"""Predicting block by block: the same objects as of the whole image at once, each once, whatever the cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from round_trip import METHODS, Labels, Method, nuclei, same_objects, separate_ellipses

from karyon.inference.blocks import Block, Blocks, Found, Threads
from karyon.inference.label_store import blank
from karyon.instances import Instances, without_crumbs
from karyon.labels import let_go, object_areas
from karyon.metrics.matching import match_instances
from karyon.representations.foreground.postprocessing import ForegroundPostprocessing
from karyon.representations.protocol import Maps, Postprocessing


def in_blocks(blocks: Blocks, maps: Maps, postprocessing: Postprocessing, seen: list[Block] | None = None) -> Found:
    def find(block: Block) -> Found:
        if seen is not None:
            seen.append(block)
        part = maps[(slice(None), *block.region)]
        return postprocessing.probability(part), postprocessing(part)

    found = blocks.find((maps.shape[1], maps.shape[2]), find, probability=True)
    # Ids have no gaps, and the boxes are those of the label image.
    assert np.array_equal(Instances.from_labels(found[1].labels).boxes, found[1].boxes)
    assert len(found[1]) == found[1].labels.max() == len(found[1].scores)
    return found


@pytest.fixture(scope="module")
def scene() -> Labels:
    """Six scenes of nuclei, many of them touching, beside each other, (256, 384), ids without gaps."""
    scenes = nuclei(6, 128)
    scenes += np.where(scenes > 0, 1000 * np.arange(6)[:, None, None], 0)
    image = scenes.reshape(2, 3, 128, 128).swapaxes(1, 2).reshape(256, 384)
    return np.unique(image, return_inverse=True)[1].reshape(image.shape)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_representation_gives_the_objects_of_the_whole_image(method: Method, scene: Labels) -> None:
    maps, postprocessing = method.maps(scene), method.postprocessing()
    whole = postprocessing(maps)
    probability, found = in_blocks(Blocks(block=64, halo=64), maps, postprocessing)
    assert len(whole) == len(found) > 40
    # Where maps are exact, watersheds meet ties, which a cut may decide otherwise.
    assert match_instances(whole.labels, found.labels).ious.sum() / len(whole) > 0.995
    assert np.array_equal(probability, postprocessing.probability(maps))


@settings(max_examples=40)
@given(separate_ellipses(), st.sampled_from([16, 32, 48]))
def test_objects_keep_their_pixels_and_scores(labels: Labels, block: int) -> None:
    # Moved, so that the blocks' edges cross the ellipses.
    maps = METHODS["foreground"].maps(np.pad(labels, ((5, 0), (7, 0)))) * np.linspace(0.6, 1, 87, dtype=np.float32)
    postprocessing = ForegroundPostprocessing(min_area=1)
    whole, (_, found) = postprocessing(maps), in_blocks(Blocks(block, halo=16, align=16), maps, postprocessing)
    assert same_objects(whole.labels, found.labels)
    assert np.sort(found.scores) == pytest.approx(np.sort(whole.scores))


@settings(max_examples=20)
@given(separate_ellipses(), st.sampled_from([16, 32, 48]), st.sampled_from([2, 3]), st.booleans())
def test_threads_and_files_change_nothing(labels: Labels, block: int, threads: int, on_disk: bool) -> None:
    maps, postprocessing = METHODS["foreground"].maps(labels), ForegroundPostprocessing(min_area=1)
    probability, found = in_blocks(Blocks(block, 16, 16), maps, postprocessing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("karyon.inference.label_store.IN_MEMORY", 0 if on_disk else 2**20)
        again, others = in_blocks(Blocks(block, 16, 16).by(Threads(threads)), maps, postprocessing)
    assert np.array_equal(others.labels, found.labels) and np.array_equal(others.scores, found.scores)
    assert np.array_equal(others.boxes, found.boxes) and np.array_equal(again, probability)


@pytest.mark.parametrize("on_disk", [False, True])
def test_what_is_taken_out_of_memory_is_not_lost(on_disk: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("karyon.inference.label_store.IN_MEMORY", 0 if on_disk else 2**20)
    monkeypatch.setattr("karyon.labels.BAND", 2048)
    labels = blank((256, 256), np.int32)
    labels[10:20, 10:20], labels[100, 100], labels[200:212, 7:17] = 1, 2, 3
    let_go(labels)
    assert object_areas(labels, 4).tolist() == [100, 1, 120, 0]
    found = without_crumbs(Instances.from_labels(labels, np.array([0.9, 0.5, 0.9])), 0.3, 0.8)
    assert object_areas(found.labels).tolist() == [100, 120] and found.boxes[1].tolist() == [7, 200, 17, 212]


def test_the_label_image_leaves_memory_though_the_edges_are_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    gone: list[np.ndarray] = []
    monkeypatch.setattr("karyon.inference.blocks.let_go", gone.append)

    def find(block: Block) -> Found:
        return None, Instances.from_labels(np.zeros([part.stop - part.start for part in block.region], np.int32))

    Blocks(32, 16, 16).find((96, 96), find, wanted=lambda core: core[1].start == 32)
    assert len(gone) == 3


def test_blocks_that_are_not_wanted_are_not_looked_at() -> None:
    seen: list[Block] = []

    def find(block: Block) -> Found:
        seen.append(block)
        return None, Instances.from_labels(np.zeros([part.stop - part.start for part in block.region], np.int32))

    found = Blocks(32, 16, 16).find((64, 64), find, wanted=lambda core: core[0].start == core[1].start)[1]
    assert [block.core[0].start for block in seen] == [0, 32] and len(found) == 0
    assert len(Blocks(32, 16, 16).find((64, 64), find, wanted=lambda core: False)[1]) == 0 and len(seen) == 2


@settings(max_examples=40)
@given(st.integers(1, 100), st.integers(1, 100))
def test_a_block_and_its_halo_is_all_that_is_asked_for(height: int, width: int) -> None:
    seen: list[Block] = []
    blocks = Blocks(block=32, halo=16, align=16)
    in_blocks(blocks, np.zeros((1, height, width), np.float32), ForegroundPostprocessing(), seen)
    sizes = [tuple(side.stop - side.start for side in block.region) for block in seen]
    assert len(seen) == -(-height // 32) * -(-width // 32) and np.max(sizes) <= 64
    assert max(height, width) > 32 or sizes == [(height, width)]
    assert [block.share for block in seen] == pytest.approx(np.arange(len(seen)) / len(seen))
    covered = np.zeros((height, width), int)
    for block in seen:
        covered[block.core] += 1
    assert (covered == 1).all()


def test_an_object_that_two_blocks_find_a_little_differently_is_one() -> None:
    def find(block: Block) -> Found:
        left, labels = 25 - block.region[1].start, np.zeros((32, 48), np.int32)
        left += 2 * (block.core[1].start > 0)
        labels[10:20, left : left + 12] = 1
        return None, Instances.from_labels(labels)

    assert Blocks(block=32, halo=16, align=16).find((32, 64), find)[1].boxes.tolist() == [[25, 10, 37, 20]]


@pytest.mark.parametrize("both", [True, False])
def test_an_object_that_each_of_two_blocks_sees_in_the_other_is_not_lost(both: bool) -> None:
    def find(block: Block) -> Found:
        is_left = block.core[1].start == 0
        labels = np.zeros((32, 48), np.int32)
        left = (27 if is_left else 25) - block.region[1].start
        labels[10:20, left : left + 12] = is_left or both
        return None, Instances.from_labels(labels, np.array([0.7 if is_left else 0.8])[: labels.max()])

    found = Blocks(block=32, halo=16, align=16).find((32, 64), find)[1]
    # What the other one does not see at all is not there.
    assert found.boxes.tolist() == [[27, 10, 39, 20]] * both and found.scores == pytest.approx([0.7] * both)


def test_what_is_larger_than_the_halo_is_cut_but_never_drawn_twice() -> None:
    found = in_blocks(Blocks(32, halo=16, align=16), np.ones((1, 96, 96), np.float32), ForegroundPostprocessing())[1]
    assert len(found) > 1


@pytest.mark.parametrize(("block", "halo"), [(100, 32), (64, 10), (0, 32), (64, -32)])
def test_blocks_that_do_not_fit_the_stride_are_refused(block: int, halo: int) -> None:
    with pytest.raises(ValueError, match=f"Blocks of {block} px with a halo of {halo} px .* multiples of 32 px"):
        Blocks(block, halo)


@pytest.mark.parametrize(("scale", "block", "halo"), [(1, 768, 128), (3, 256, 64), (0.5, 768, 256), (0.1, 2560, 1280)])
def test_blocks_of_another_scale_show_the_network_as_much(scale: float, block: int, halo: int) -> None:
    blocks = Blocks(768, 128).at_scale(scale)
    assert (blocks.block, blocks.halo) == (block, halo)
    assert halo * scale >= 128
