from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import vgg16_bn

from karyon.networks.segnet import SegNet, unpool


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in network.state_dict().items()}


def convolution_shapes(network: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(module.weight.shape) for module in network.modules() if isinstance(module, nn.Conv2d)]


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def test_segnet_is_vgg16_and_its_mirror_image() -> None:
    with torch.device("meta"):
        network, features = SegNet(), vgg16_bn(init_weights=False).features
    assert shapes(network.encoder) == shapes(features)
    down, up = convolution_shapes(network.encoder), convolution_shapes(network.decoder)
    assert len(down) == len(up) == 13
    assert up[-1] == (1, 64, 3, 3)
    assert [(inputs, outputs, *kernel) for outputs, inputs, *kernel in up[-2::-1]] == down[1:]
    # A bias and two of the batch norm a channel; back, one channel goes out where three came in, and has a bias only.
    kernels = sum(module.weight.numel() for module in network.encoder if isinstance(module, nn.Conv2d))
    assert kernels + 4224 == 14_714_688  # VGG16's.
    encoder, decoder = kernels + 3 * 4224, kernels - 9 * 64 * (3 - 1) + 3 * (4224 - 512) + 1
    assert sum(weight.numel() for weight in network.encoder.parameters()) == encoder
    assert sum(weight.numel() for weight in network.decoder.parameters()) == decoder
    assert encoder + decoder == 29_443_585


def test_segnet_ends_in_a_convolution() -> None:
    assert [type(stage[-1]) for stage in SegNet(widths=(4, 4)).decoder] == [nn.ReLU, nn.Conv2d]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_unpooling_is_that_of_torch(memory_format: torch.memory_format) -> None:
    image = torch.randn(2, 3, 8, 6).contiguous(memory_format=memory_format)
    pooled, indices = functional.max_pool2d(image, 2, return_indices=True)
    assert torch.equal(unpool(pooled, indices), functional.max_unpool2d(pooled, indices, 2))


def bare(skips: int) -> nn.Module:
    """SegNet with two levels and without convolutions: nothing but its pooling, unpooling and skip connections."""
    network = SegNet(widths=(1, 1), skips=skips)
    network.encoder = nn.Sequential(nn.MaxPool2d(2, return_indices=True), nn.MaxPool2d(2, return_indices=True))
    network.decoder = nn.ModuleList([nn.Identity(), nn.Identity()])
    return network


def test_maxima_return_to_their_places() -> None:
    image = torch.rand(1, 1, 8, 8)
    output = bare(skips=0)(image)
    maxima = functional.max_pool2d(image, 4)
    assert torch.equal(output, torch.where(image == functional.interpolate(maxima, scale_factor=4), image, 0))


def test_u_segnet_joins_full_resolution_alone() -> None:
    image = torch.rand(1, 1, 8, 8)
    assert torch.equal(bare(skips=1)(image), torch.cat([image, bare(skips=0)(image)], dim=1))
    assert bare(skips=2)(image).shape == (1, 3, 8, 8)


def test_u_segnet_differs_from_segnet_in_one_convolution() -> None:
    with torch.device("meta"):
        segnet, u_segnet = shapes(SegNet()), shapes(SegNet(skips=1))
    assert {name: shape for name, shape in u_segnet.items() if shape != segnet[name]} == {
        "decoder.4.0.weight": (64, 128, 3, 3)
    }


def test_segnet_trains_in_bfloat16_channels_last_and_deterministically(deterministic: None) -> None:
    network = SegNet(widths=(8, 8, 8), skips=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = torch.rand(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(image)
    assert output.dtype == torch.bfloat16
    output.float().square().mean().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": ()}, "0 widths: give one to 5"),
        ({"widths": (4,) * 6}, "6 widths: give one to 5"),
        ({"widths": (4, 4), "skips": 3}, "3 skip connections: give 0 to 2"),
        ({"widths": (4, 4), "skips": -1}, "-1 skip connections: give 0 to 2"),
    ],
)
def test_segnet_refuses_what_does_not_fit(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegNet(**arguments)  # type: ignore[arg-type]
