from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_modules.inference import DihedralAverage, EnlargeSmall, Once, Rescaled, Tiled
from lightning_modules.losses import BinaryCrossEntropy
from lightning_modules.networks.simple_cnn import SimpleCNN
from lightning_modules.networks.unet import UNet
from lightning_modules.representations.foreground import Foreground, ForegroundDecoder
from lightning_modules.representations.star import Star
from lightning_modules.symmetry import VIEWS, turn, turn_back


class Looks:
    """A segmenter whose maps a function makes of the image; it remembers what it has looked at."""

    representation = Foreground(BinaryCrossEntropy())
    decoder = ForegroundDecoder(min_area=1)

    def __init__(self, maps: Callable[[Tensor], Tensor]) -> None:
        self.maps = maps
        self.shapes: list[tuple[int, ...]] = []

    def maps_once(self, image: Tensor) -> Tensor:
        self.shapes.append(tuple(image.shape))
        return self.maps(image)


@given(st.integers(1, 7), st.integers(1, 7), st.sampled_from(VIEWS))
def test_turning_back_undoes_turning(height: int, width: int, view: tuple[int, bool]) -> None:
    image = torch.arange(2.0 * height * width).reshape(1, 2, height, width)
    assert torch.equal(turn_back(turn(image, *view), *view), image)


def test_the_views_are_the_eight_symmetries_of_the_square() -> None:
    square = torch.arange(9).reshape(3, 3)
    assert len({tuple(turn(square, *view).ravel().tolist()) for view in VIEWS}) == 8


def test_what_commutes_with_turning_stays_as_it_is() -> None:
    image = torch.rand(2, 3, 5, 8)
    torch.testing.assert_close(DihedralAverage().apply(Looks(torch.sigmoid), image), torch.sigmoid(image))


def test_the_average_turns_with_the_image() -> None:
    network = nn.Conv2d(1, 1, 3, padding=1)
    image = torch.rand(1, 1, 6, 9)

    def average(image: Tensor) -> Tensor:
        return DihedralAverage().apply(Looks(network), image)

    with torch.no_grad():
        for view in VIEWS:
            torch.testing.assert_close(average(turn(image, *view)), turn(average(image), *view))
        # The network alone does not.
        assert not torch.allclose(network(turn(image, 1, False)), turn(network(image), 1, False))


def test_a_network_that_marks_a_corner_marks_all_four() -> None:
    def corner(image: Tensor) -> Tensor:
        marked = torch.zeros_like(image)
        marked[..., 0, 0] = 1
        return marked

    average = DihedralAverage().apply(Looks(corner), torch.rand(1, 1, 3, 4))
    assert average[0, 0].tolist() == [[0.25, 0, 0, 0.25], [0, 0, 0, 0], [0.25, 0, 0, 0.25]]


sizes = st.integers(1, 90)


@given(sizes, st.integers(0, 7))
def test_windows_cover_an_axis_and_their_weights_add_up_to_one(length: int, margin: int) -> None:
    tiled = Tiled(window=32, overlap=16, margin=margin, align=4)
    total = torch.zeros(length)
    for window in tiled.windows(length):
        assert window.start % 4 == 0
        total[window] += tiled.weight(window, length)
    torch.testing.assert_close(total, torch.ones(length))


@settings(deadline=None, max_examples=25)
@given(sizes, sizes)
def test_tiles_give_what_one_pass_gives(height: int, width: int) -> None:
    torch.manual_seed(0)
    # It sees 3 px to each side.
    network = SimpleCNN(1, 2, layers=[(4, 3, 1), (4, 3, 1)], output_kernel=3, activation=nn.ReLU).eval()
    image = torch.rand(2, 1, height, width)
    with torch.no_grad():
        tiled = Tiled(window=32, overlap=16, margin=3, align=4).apply(Looks(network), image)
        torch.testing.assert_close(tiled, network(image), atol=1e-5, rtol=1e-5)


def test_a_network_that_halves_the_image_agrees_where_windows_are_aligned() -> None:
    torch.manual_seed(0)
    # Two levels: 2 + 2 * 2 + 2 px and the parity of the pooling, less than 12 px to each side.
    network = UNet(1, 1, widths=(4, 8), dropout=(0.0, 0.0)).eval()
    image = torch.rand(1, 1, 150, 97)
    with torch.no_grad():
        tiled = Tiled(window=64, overlap=32, margin=12, align=2).apply(Looks(network), image)
        torch.testing.assert_close(tiled, network(image), atol=1e-5, rtol=1e-5)
        # Too narrow a margin shows.
        narrow = Tiled(window=64, overlap=32, margin=1, align=2).apply(Looks(network), image)
        assert (narrow - network(image)).abs().max() > 1e-3


def test_each_tile_can_be_turned() -> None:
    image = torch.rand(1, 1, 40, 50)
    network = nn.Conv2d(1, 1, 3, padding=1)
    with torch.no_grad():
        tiled = Tiled(window=32, overlap=16, margin=4, align=4, inner=DihedralAverage()).apply(Looks(network), image)
        torch.testing.assert_close(tiled, DihedralAverage().apply(Looks(network), image))


def discs(diameter: float, side: int = 96, places: int = 3) -> Tensor:
    """An image (1, 1, side, side) that is 1 in discs, as a perfect network's maps would be, and 0 elsewhere."""
    pitch = side // places
    across = (torch.arange(side) % pitch - pitch / 2 + 0.5) ** 2
    return ((across[:, None] + across).sqrt() < diameter / 2).float()[None, None]


def test_another_scale_is_looked_at_and_the_maps_come_back() -> None:
    looks = Looks(lambda image: image)
    image = discs(12)[..., :90]
    maps = Rescaled(2, DihedralAverage()).apply(looks, image)
    assert set(looks.shapes) == {(1, 1, 192, 180), (1, 1, 180, 192)}
    assert maps.shape == image.shape
    # Twice interpolated: only pixels along the edges change.
    assert (maps - image).abs().mean() < 0.03


def test_lengths_in_maps_follow_the_scale() -> None:
    class Rays(Looks):
        representation = Star(rays=4)

    # At any scale it claims to see an edge 6 px away: seen twice as large, that is 3 px.
    looks = Rays(lambda image: torch.cat([image, torch.full((1, 4, *image.shape[-2:]), 6.0)], 1))
    maps = Rescaled(2).apply(looks, discs(12))
    torch.testing.assert_close(maps[:, 1:], torch.full((1, 4, 96, 96), 3.0))


@pytest.mark.parametrize(("diameter", "side"), [(12, 192), (6, 288), (24, 96), (26, 96), (30, 96)])
def test_small_objects_are_looked_at_again_enlarged(diameter: int, side: int) -> None:
    looks = Looks(lambda image: image)
    maps = EnlargeSmall(24).apply(looks, discs(diameter))
    first, *again = [shape[-1] for shape in looks.shapes]
    # Three times as large at most, never smaller, and once where that is enough; what was found is not exactly what was
    # drawn.
    assert first == 96 and again == ([] if side == 96 else [pytest.approx(side, rel=0.05)])
    assert maps.shape == (1, 1, 96, 96) and len(looks.decoder(maps[0])) == 9


def test_each_image_of_a_batch_has_a_scale_of_its_own() -> None:
    looks = Looks(lambda image: image)
    maps = EnlargeSmall(24, inner=Once()).apply(looks, torch.cat([discs(30), discs(6), torch.zeros(1, 1, 96, 96)]))
    # Nothing found: nothing is known of its size.
    assert [shape[-1] for shape in looks.shapes] == [96, 96, 288, 96]
    assert maps.shape == (3, 1, 96, 96)


@pytest.mark.parametrize("overlap", [8, 20, 15])
def test_windows_that_do_not_fit_are_refused(overlap: int) -> None:
    with pytest.raises(ValueError, match=f"an overlap of {overlap} px"):
        Tiled(window=32, overlap=overlap, margin=4, align=4)
