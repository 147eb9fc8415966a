"""Blockwise decoding: the same objects as of the whole image at once, each once, whatever the cut."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from round_trip import nuclei, same_objects, separate_ellipses
from torch import Tensor

from lightning_modules.blocks import Blockwise
from lightning_modules.instances import Instances
from lightning_modules.metrics import match_instances
from lightning_modules.representations import border, distance, flow, star
from lightning_modules.representations.foreground import ForegroundDecoder
from lightning_modules.representations.protocol import Decoder


def border_maps(labels: Tensor) -> Tensor:
    target = border.encode(labels[None])[0]
    return torch.stack([target == k for k in range(3)]).float()


def same(maps: Tensor) -> Tensor:
    return maps


class Recorder:
    """Hands its maps on, and keeps the sizes it was asked for."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def __call__(self, maps: Tensor) -> Tensor:
        self.sizes.append(tuple(maps.shape[-2:]))
        return maps


def scene() -> Tensor:
    """Six scenes of nuclei, many of them touching, beside each other, int64 (256, 384), ids without gaps."""
    scenes = nuclei(6, 128)
    scenes += torch.where(scenes > 0, 1000 * torch.arange(6)[:, None, None], 0)
    rows = [torch.cat(list(scenes[first : first + 3]), dim=1) for first in (0, 3)]
    return torch.unique(torch.cat(rows), return_inverse=True)[1]


METHODS: dict[str, tuple[Callable[[Tensor], Tensor], Decoder]] = {
    "foreground": (lambda labels: (labels > 0)[None].float(), ForegroundDecoder()),
    "border": (border_maps, border.BorderDecoder()),
    "distance": (
        lambda labels: torch.stack([(labels > 0).float(), distance.encode(labels[None])[0]]),
        distance.DistanceDecoder(),
    ),
    "star": (lambda labels: star.encode(labels[None])[0], star.StarDecoder()),
    "flow": (lambda labels: flow.encode(labels[None])[0], flow.FlowDecoder()),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_representation_gives_the_objects_of_the_whole_image(method: str) -> None:
    encode, decoder = METHODS[method]
    maps = encode(scene())
    whole = decoder(maps)
    probability, found = Blockwise(block=64, halo=64).decode(same, maps[None], decoder)
    matching = match_instances(whole.labels, found.labels)
    assert len(whole) == len(found) == matching.n_pred > 40
    # Where maps are exact, watersheds meet ties, which a cut may decide otherwise.
    assert matching.ious.sum() / len(whole) > 0.995
    assert torch.equal(probability, decoder.probability(maps))


@settings(deadline=None, max_examples=40)
@given(separate_ellipses(), st.sampled_from([16, 32, 48]))
def test_objects_keep_their_pixels_scores_and_boxes(labels: Tensor, block: int) -> None:
    maps = (labels > 0)[None].float()
    decoder = ForegroundDecoder(min_area=1)
    whole = decoder(maps)
    _, found = Blockwise(block, halo=16, align=16).decode(same, maps[None], decoder)
    assert same_objects(whole.labels, found.labels) and len(whole) == len(found)
    again = Instances.from_labels(found.labels, found.scores)
    assert torch.equal(again.boxes, found.boxes)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 100), st.integers(1, 100))
def test_a_block_and_its_halo_is_all_that_is_asked_for(height: int, width: int) -> None:
    maps = Recorder()
    Blockwise(block=32, halo=16, align=16).decode(maps, torch.zeros(1, 1, height, width), ForegroundDecoder())
    assert len(maps.sizes) == -(-height // 32) * -(-width // 32)
    assert max(size[0] for size in maps.sizes) <= 64 and max(size[1] for size in maps.sizes) <= 64
    if max(height, width) <= 32:
        assert maps.sizes == [(height, width)]


def test_what_is_larger_than_the_halo_is_cut_but_never_drawn_twice() -> None:
    maps = torch.ones(1, 1, 96, 96)
    _, found = Blockwise(block=32, halo=16, align=16).decode(same, maps, ForegroundDecoder(min_area=1))
    labels = found.labels
    assert len(found) == int(labels.max()) == len(found.scores)
    assert torch.equal(Instances.from_labels(labels, found.scores).boxes, found.boxes)


@pytest.mark.parametrize(("block", "halo"), [(100, 32), (64, 10), (0, 32), (64, -32)])
def test_blocks_that_do_not_fit_the_stride_are_refused(block: int, halo: int) -> None:
    with pytest.raises(ValueError, match=f"blocks of {block} px and a halo of {halo} px: both must be multiples of 32"):
        Blockwise(block, halo)


@pytest.mark.parametrize(("scale", "block", "halo"), [(1, 768, 128), (3, 256, 64), (0.5, 768, 256), (0.1, 2560, 1280)])
def test_blocks_of_another_scale_show_the_network_as_much(scale: float, block: int, halo: int) -> None:
    blocks = Blockwise(768, 128).at_scale(scale)
    assert (blocks.block, blocks.halo) == (block, halo)
    assert halo * scale >= 128
