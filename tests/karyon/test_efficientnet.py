import pytest
import timm
import torch
from skimage import data, transform
from torchvision.transforms.functional import normalize

from karyon.networks.efficientnet_lite import MEAN, STD, Variant, efficientnet_lite, imagenet_state
from karyon.networks.efficientnet_unet import EfficientNetUNet
from karyon.networks.feature_pyramid import EfficientNetFPN

CATS = range(281, 286)


@pytest.mark.parametrize(("variant", "side"), [("lite0", 224), ("lite2", 260)])
def test_imagenets_weights_know_a_cat(variant: Variant, side: int) -> None:
    network = timm.create_model(f"tf_efficientnet_{variant}").eval()
    network.load_state_dict(imagenet_state(network.state_dict(), variant))
    image = torch.from_numpy(transform.resize(data.chelsea()[:, 75:375], (side, side), anti_aliasing=True))
    with torch.no_grad():
        probability = network(normalize(image.permute(2, 0, 1)[None].float(), MEAN, STD)).softmax(1)[0]
    assert int(probability.argmax()) in CATS
    assert probability[CATS].sum() > 0.8


def test_a_larger_encoder_is_an_argument() -> None:
    small, large = (EfficientNetUNet(2, 3, variant=variant) for variant in ("lite0", "lite2"))
    assert large(torch.zeros(1, 2, 40, 56)).shape == small(torch.zeros(1, 2, 40, 56)).shape == (1, 3, 40, 56)
    assert [sum(p.numel() for p in network.encoder.parameters()) for network in (small, large)] == [700480, 1161296]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="has 3 widths: give four"):
        EfficientNetUNet(widths=(8, 16, 24))


def test_fine_detail_reaches_the_output() -> None:
    # A change of one pixel changes the output there, by way of the convolution at full resolution alone.
    network = EfficientNetUNet(1).eval()
    for parameter in network.encoder.parameters():
        torch.nn.init.zeros_(parameter)
    image = torch.zeros(1, 1, 32, 32)
    image[0, 0, 13, 17] = 1
    with torch.no_grad():
        change = (network(image) - network(torch.zeros_like(image)))[0, 0].abs()
    rows, columns = torch.nonzero(change > 1e-7).T
    assert rows.min() <= 13 <= rows.max() and columns.min() <= 17 <= columns.max()
    assert rows.max() - rows.min() <= 6


@pytest.mark.parametrize(("first", "last", "blocks"), [(1, 4, 5), (2, 5, 7), (1, 2, 2)])
def test_encoder_has_the_maps_that_are_asked_for_and_no_block_behind_them(first: int, last: int, blocks: int) -> None:
    encoder = efficientnet_lite(1, "none", first, last).eval()
    sides = [features.shape[-1] for features in encoder(torch.rand(1, 1, 64, 64))]
    assert sides == [64 // 2**level for level in range(first, last + 1)]
    assert len(encoder.blocks) == blocks


def test_pyramid_has_four_levels_of_one_width_and_learns() -> None:
    pyramid = EfficientNetFPN(channels=8, in_channels=1)
    levels = pyramid(torch.rand(2, 1, 64, 64))
    assert {name: level.shape[1:] for name, level in levels.items()} == {
        str(k): (8, 16 >> k, 16 >> k) for k in range(4)
    }
    sum(level.square().mean() for level in levels.values()).backward()
    assert all(weight.grad is not None for weight in pyramid.parameters())
