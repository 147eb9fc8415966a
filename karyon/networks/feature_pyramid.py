"""Feature pyramids (FPN): maps of one width at strides of 4, 8, 16 and 32 px, for torchvision's detectors."""

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn
from torchvision.models import (
    ResNet18_Weights,
    ResNet50_Weights,
    ResNet101_Weights,
    WeightsEnum,
    resnet18,
    resnet50,
    resnet101,
)
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FeaturePyramidNetwork

from karyon.networks.efficientnet_lite import efficientnet_lite
from karyon.networks.inception_resnet import inception_resnet
from karyon.networks.pretrained import pretrained_weights

RESNETS = {
    18: (resnet18, ResNet18_Weights.IMAGENET1K_V1),
    50: (resnet50, ResNet50_Weights.IMAGENET1K_V1),
    101: (resnet101, ResNet101_Weights.IMAGENET1K_V1),
}


class FeaturePyramid(nn.Module):
    """A body that gives four maps, and on top of it a pyramid; its modules are named as in torchvision's detectors.

    Args:
        body: images (B, C, H, W) to maps named 0, 1, 2 and 3 at strides 4, 8, 16 and 32.
        body_channels: of these maps.
        channels: of each level of the pyramid.

    Source: Lin et al. 2017, "Feature Pyramid Networks for Object Detection", https://arxiv.org/abs/1612.03144
    """

    def __init__(self, body: nn.Module, body_channels: list[int], channels: int) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(body_channels, channels, norm_layer=nn.BatchNorm2d)
        self.out_channels = channels

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Maps images (B, C, H, W), H and W multiples of 32, to the levels 0, 1, 2 and 3."""
        # In full precision whatever the rest is computed in: anchors take their type from the features, and bf16 knows
        # coordinates above 256 px by twos only.
        return {name: level.float() for name, level in self.fpn(self.body(image)).items()}


class ResNetFPN(FeaturePyramid):
    """A ResNet with a pyramid.

    Args:
        depth: layers of the ResNet.
        channels: of each level of the pyramid.
        in_channels: of the image.
        pretrained: whether the ResNet starts with ImageNet's weights, for images in [0, 1].

    Raises:
        ValueError: the pretrained weights do not fit or cannot be downloaded.
    """

    def __init__(
        self,
        depth: Literal[18, 50, 101] = 50,
        channels: int = 256,
        in_channels: int = 3,
        pretrained: Literal["imagenet", "none"] = "none",
    ) -> None:
        build, imagenet = RESNETS[depth]
        resnet = build(weights=None)
        if in_channels != 3:
            resnet.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(resnet.conv1.weight, mode="fan_out", nonlinearity="relu")
        widths = [resnet.fc.in_features // reduction for reduction in (8, 4, 2, 1)]
        body = IntermediateLayerGetter(resnet, {f"layer{k + 1}": str(k) for k in range(4)})
        super().__init__(body, widths, channels)
        self.depth, self.in_channels = depth, in_channels
        if pretrained == "imagenet":
            self._start(imagenet)

    def _start(self, weights: WeightsEnum) -> None:
        state = pretrained_weights(weights, self.in_channels, "conv1", "bn1")
        self.body.load_state_dict({name: value for name, value in state.items() if not name.startswith("fc.")})


class InceptionResNetFPN(FeaturePyramid):
    """Inception-ResNet-v2 with a pyramid.

    Args:
        channels: of each level of the pyramid.
        in_channels: of the image.
        pretrained: whether Inception-ResNet-v2 starts with ImageNet's weights, for images in [0, 1].

    Raises:
        ValueError: the pretrained weights do not fit or cannot be downloaded.
    """

    def __init__(
        self, channels: int = 256, in_channels: int = 3, pretrained: Literal["imagenet", "none"] = "none"
    ) -> None:
        encoder = inception_resnet(in_channels, pretrained, depth=5)
        super().__init__(_Stages(encoder), encoder.out_channels[2:], channels)


class EfficientNetFPN(FeaturePyramid):
    """EfficientNet-Lite0 with a pyramid: twenty times as fast on a CPU as the others.

    Args:
        channels: of each level of the pyramid.
        in_channels: of the image.
        pretrained: whether EfficientNet-Lite0 starts with ImageNet's weights, for images in [0, 1].

    Raises:
        ValueError: the pretrained weights do not fit or are not installed.
    """

    def __init__(
        self, channels: int = 128, in_channels: int = 3, pretrained: Literal["imagenet", "none"] = "none"
    ) -> None:
        encoder = efficientnet_lite(in_channels, pretrained, first=2, last=5)
        super().__init__(_Stages(encoder), encoder.feature_info.channels(), channels)


class _Stages(nn.Module):
    """The last four maps that an encoder gives as a list, by name: those from stride 4 on."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return OrderedDict((str(level), features) for level, features in enumerate(self.encoder(image)[-4:]))
