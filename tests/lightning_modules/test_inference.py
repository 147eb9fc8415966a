import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_modules.inference import DihedralAverage, Tiled
from lightning_modules.networks.simple_cnn import SimpleCNN
from lightning_modules.networks.unet import UNet
from lightning_modules.symmetry import VIEWS, turn, turn_back


@given(st.integers(1, 7), st.integers(1, 7), st.sampled_from(VIEWS))
def test_turning_back_undoes_turning(height: int, width: int, view: tuple[int, bool]) -> None:
    image = torch.arange(2.0 * height * width).reshape(1, 2, height, width)
    assert torch.equal(turn_back(turn(image, *view), *view), image)


def test_the_views_are_the_eight_symmetries_of_the_square() -> None:
    square = torch.arange(9).reshape(3, 3)
    assert len({tuple(turn(square, *view).ravel().tolist()) for view in VIEWS}) == 8


def test_what_commutes_with_turning_stays_as_it_is() -> None:
    image = torch.rand(2, 3, 5, 8)
    torch.testing.assert_close(DihedralAverage().apply(torch.sigmoid, turn_back, image), torch.sigmoid(image))


def test_the_average_turns_with_the_image() -> None:
    network = nn.Conv2d(1, 1, 3, padding=1)
    image = torch.rand(1, 1, 6, 9)

    def average(image: Tensor) -> Tensor:
        return DihedralAverage().apply(network, turn_back, image)

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

    average = DihedralAverage().apply(corner, turn_back, torch.rand(1, 1, 3, 4))
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
        tiled = Tiled(window=32, overlap=16, margin=3, align=4).apply(network, turn_back, image)
        torch.testing.assert_close(tiled, network(image), atol=1e-5, rtol=1e-5)


def test_a_network_that_halves_the_image_agrees_where_windows_are_aligned() -> None:
    torch.manual_seed(0)
    # Two levels: 2 + 2 * 2 + 2 px and the parity of the pooling, less than 12 px to each side.
    network = UNet(1, 1, widths=(4, 8), dropout=(0.0, 0.0)).eval()
    image = torch.rand(1, 1, 150, 97)
    with torch.no_grad():
        tiled = Tiled(window=64, overlap=32, margin=12, align=2).apply(network, turn_back, image)
        torch.testing.assert_close(tiled, network(image), atol=1e-5, rtol=1e-5)
        # Too narrow a margin shows.
        narrow = Tiled(window=64, overlap=32, margin=1, align=2).apply(network, turn_back, image)
        assert (narrow - network(image)).abs().max() > 1e-3


def test_each_tile_can_be_turned() -> None:
    image = torch.rand(1, 1, 40, 50)
    network = nn.Conv2d(1, 1, 3, padding=1)
    with torch.no_grad():
        tiled = Tiled(window=32, overlap=16, margin=4, align=4, inner=DihedralAverage()).apply(
            network, turn_back, image
        )
        torch.testing.assert_close(tiled, DihedralAverage().apply(network, turn_back, image))


@pytest.mark.parametrize("overlap", [8, 20, 15])
def test_windows_that_do_not_fit_are_refused(overlap: int) -> None:
    with pytest.raises(ValueError, match=f"an overlap of {overlap} px"):
        Tiled(window=32, overlap=overlap, margin=4, align=4)
