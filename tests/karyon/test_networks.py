from typing import Literal

import pytest
import segmentation_models_pytorch as smp
import torch
from network_tester import check_network
from torch import nn

from karyon.networks.efficientnet_unet import EfficientNetUNet
from karyon.networks.fc_densenet import FCDenseNet
from karyon.networks.fcn import TorchvisionFCN
from karyon.networks.padding import Padded, pad_to_multiple
from karyon.networks.segnet import SegNet
from karyon.networks.simple_cnn import SimpleCNN
from karyon.networks.unet import UNet

R2_LAYERS = [(16, 3, 1)] * 6


@pytest.mark.parametrize(
    ("network", "in_channels", "out_channels"),
    [
        pytest.param(SimpleCNN(), 3, 1, id="r3-simple-cnn"),
        pytest.param(SimpleCNN(1, 2, layers=R2_LAYERS, output_kernel=3, activation=nn.ReLU), 1, 2, id="r2-simple-cnn"),
        pytest.param(UNet(), 3, 1, id="r3-unet"),
        pytest.param(UNet(1, 4, (8, 16, 32), (0.0, 0.0, 0.1), nn.ReLU, nn.BatchNorm2d), 1, 4, id="unet-batch-norm"),
        pytest.param(SegNet(1, 1, widths=(8, 8, 16, 16, 16)), 1, 1, id="r4-segnet"),
        pytest.param(SegNet(3, 2, widths=(8, 8, 16), skips=1), 3, 2, id="u-segnet"),
        pytest.param(TorchvisionFCN(1, 2), 1, 2, id="fcn-resnet50"),
        pytest.param(FCDenseNet(1, 2, 4, (2, 3), 2, first_channels=8), 1, 2, id="fc-densenet"),
        pytest.param(EfficientNetUNet(1, 2, (4, 6, 8, 10)), 1, 2, id="efficientnet-unet"),
        pytest.param(
            Padded(smp.Unet("resnet18", encoder_weights=None, in_channels=3, classes=2)), 3, 2, id="smp-unet-resnet18"
        ),
    ],
)
def test_network(network: nn.Module, in_channels: int, out_channels: int) -> None:
    check_network(network, in_channels, out_channels)


def convolutions(network: nn.Module, kind: type[nn.Module] = nn.Conv2d) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, kind)]


def test_simple_cnn_has_the_size_that_keras_counts() -> None:
    network = SimpleCNN()
    trainable = sum(parameter.numel() for parameter in network.parameters())
    running = sum(buffer.numel() for name, buffer in network.named_buffers() if "running" in name)
    assert (trainable, trainable + running) == (9_487, 9_493)


def test_simple_cnn_of_r2_has_six_convolutions_and_a_3x3_output() -> None:
    network = SimpleCNN(layers=R2_LAYERS, output_kernel=3, activation=nn.ReLU)
    assert [convolution.kernel_size for convolution in convolutions(network)] == [(3, 3)] * 7


def test_simple_cnn_sees_as_far_as_its_dilations_reach() -> None:
    # 1 + 2 * (1 + 1 + 1 + 2 + 3) = 17 px: without activations the response to a single pixel has exactly that extent.
    network = SimpleCNN(in_channels=1).eval()
    image = torch.zeros(1, 1, 41, 41)
    image[0, 0, 20, 20] = 1
    with torch.no_grad():
        response = (network(image) - network(torch.zeros_like(image)))[0, 0].abs() > 1e-9
    rows = torch.nonzero(response.any(1)).ravel()
    assert (int(rows.min()), int(rows.max())) == (12, 28)


def test_unet_is_that_of_the_papers() -> None:
    network = UNet()
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_941_105
    assert len(convolutions(network)) == 19
    assert len(convolutions(network, nn.ConvTranspose2d)) == 4
    rates = [dropout.p for dropout in convolutions(network, nn.Dropout)]
    assert rates == [0.1, 0.1, 0.2, 0.2, 0.3, 0.2, 0.2, 0.1, 0.1]


def test_unet_of_r4_is_that_of_ronneberger() -> None:
    # Two 3x3 convolutions a level, the first after an up-convolution taking both halves of the concatenation.
    pairs = [(1, 64), (64, 128), (128, 256), (256, 512), (512, 1024), (1024, 512), (512, 256), (256, 128), (128, 64)]
    levels = sum(9 * (inputs * outputs + outputs**2) + 2 * outputs for inputs, outputs in pairs)
    upsampling = sum(4 * deep * shallow + shallow for deep, shallow in pairs[5:])
    with torch.device("meta"):
        network = UNet(1, 2, (64, 128, 256, 512, 1024), (0,) * 5, nn.ReLU)
    assert sum(parameter.numel() for parameter in network.parameters()) == levels + upsampling + 2 * 64 + 2
    assert levels + upsampling == 31_030_528
    # "In total the network has 23 convolutional layers."
    assert len(convolutions(network)) + len(convolutions(network, nn.ConvTranspose2d)) == 23


def test_unet_of_r4_as_its_text_describes_it_has_three_poolings() -> None:
    with torch.device("meta"):
        network = UNet(1, 1, (64, 128, 256, 512), (0,) * 4, nn.ReLU)
    assert network.multiple == 2**3
    assert len(convolutions(network)) + len(convolutions(network, nn.ConvTranspose2d)) == 2 * 7 + 3 + 1


def test_unet_starts_with_he_normal_weights() -> None:
    weight = UNet(widths=(64, 256), dropout=(0, 0)).down[1][0].weight
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


def test_unet_refuses_unequal_widths_and_rates() -> None:
    with pytest.raises(ValueError, match="3 widths and 2 dropout rates"):
        UNet(widths=(8, 16, 32), dropout=(0.1, 0.1))


@pytest.mark.parametrize(("depth", "blocks"), [(50, [3, 4, 6, 3]), (101, [3, 4, 23, 3])])
def test_an_fcns_backbone_has_the_blocks_of_its_resnet(depth: Literal[50, 101], blocks: list[int]) -> None:
    with torch.device("meta"):
        network = TorchvisionFCN(1, 2, depth).network
    assert [len(network.backbone[f"layer{k}"]) for k in (1, 2, 3, 4)] == blocks
    # Three convolutions a bottleneck and the first one: with ResNet's own last layer, its depth.
    kept = [name for name, module in network.backbone.named_modules() if isinstance(module, nn.Conv2d)]
    assert len([name for name in kept if "downsample" not in name]) == depth - 1
    assert (network.backbone.conv1.in_channels, network.classifier[-1].out_channels) == (1, 2)
    assert network.aux_classifier is None


def test_padding_adds_zeros_and_keeps_what_fits() -> None:
    image = torch.arange(1.0, 7).reshape(1, 1, 2, 3)
    assert pad_to_multiple(image, 2).tolist() == [[[[1, 2, 3, 0], [4, 5, 6, 0]]]]
    assert pad_to_multiple(torch.rand(1, 1, 4, 8), 4).shape == (1, 1, 4, 8)
