import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_modules.inference import DihedralAverage
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
    torch.testing.assert_close(DihedralAverage()(torch.sigmoid, turn_back, image), torch.sigmoid(image))


def test_the_average_turns_with_the_image() -> None:
    network = nn.Conv2d(1, 1, 3, padding=1)
    image = torch.rand(1, 1, 6, 9)

    def average(image: Tensor) -> Tensor:
        return DihedralAverage()(network, turn_back, image)

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

    average = DihedralAverage()(corner, turn_back, torch.rand(1, 1, 3, 4))
    assert average[0, 0].tolist() == [[0.25, 0, 0, 0.25], [0, 0, 0, 0], [0.25, 0, 0, 0.25]]
