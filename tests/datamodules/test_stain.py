"""Stains change their amount by what light they absorb."""

import albumentations
import numpy as np
import pytest

from datamodules.augmentation.stain import FAINTEST, STAINS, StainVariation

# Albumentations warns of arguments that it does not know.
pytestmark = pytest.mark.filterwarnings("error")

COLOURS = np.random.default_rng(0).random((32, 24, 3), np.float32)
ONE = (1.0, 1.0)


def vary(image: np.ndarray, seed: int = 0, **arguments: object) -> np.ndarray:
    composed = albumentations.Compose([StainVariation(p=1, **{"colour": 0, "amount": ONE, "shift": 0, **arguments})])
    composed.set_random_seed(seed)
    result = composed(image=image)["image"]
    assert result.dtype == image.dtype and result.shape == image.shape
    return result


def test_nothing_changes_without_a_change() -> None:
    assert np.abs(vary(COLOURS) - COLOURS).max() <= FAINTEST


def test_twice_the_stain_lets_the_square_of_the_light_through() -> None:
    image = 0.1 + 0.9 * COLOURS
    np.testing.assert_allclose(vary(image, amount=(2, 2)), image**2, atol=1e-6)


@pytest.mark.parametrize("stain", range(3))
def test_each_stain_is_multiplied_by_one_factor(stain: int) -> None:
    amounts = np.linspace(0.1, 2, 30).reshape(5, 6, 1)
    found = vary(np.exp(-amounts * STAINS[stain]).astype(np.float32), amount=(0.6, 1.5))
    factors = -np.log(found) / (amounts * STAINS[stain])
    np.testing.assert_allclose(factors, factors.mean(), rtol=1e-4)
    assert 0.6 <= factors.mean() <= 1.5


@pytest.mark.parametrize("image", [np.repeat(COLOURS[..., :1], 3, 2), COLOURS[..., :1]], ids=["grey", "one channel"])
def test_an_image_without_stain_stays(image: np.ndarray) -> None:
    np.testing.assert_array_equal(vary(image, colour=0.2, amount=(0.1, 0.5), shift=0.3), image)


def test_colours_vary_within_bounds_and_by_the_seed() -> None:
    arguments = {"colour": 0.1, "amount": (0.5, 2), "shift": 0.2}
    first, second = (vary(COLOURS, seed, **arguments) for seed in (0, 1))
    assert np.abs(first - second).max() > 0.05
    assert first.min() >= 0 and first.max() <= 1
    np.testing.assert_array_equal(first, vary(COLOURS, 0, **arguments))
