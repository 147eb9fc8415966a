"""Torchvision's fully convolutional ResNets."""

from typing import Literal

from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, ResNet101_Weights
from torchvision.models.segmentation import FCN_ResNet50_Weights, FCN_ResNet101_Weights, fcn_resnet50, fcn_resnet101

from karyon.networks.pretrained import pretrained_weights

NETWORKS = {
    50: (fcn_resnet50, FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1, ResNet50_Weights.IMAGENET1K_V1),
    101: (fcn_resnet101, FCN_ResNet101_Weights.COCO_WITH_VOC_LABELS_V1, ResNet101_Weights.IMAGENET1K_V1),
}


class TorchvisionFCN(nn.Module):
    """Fully convolutional network: a ResNet dilated to 1/8 of the resolution, two convolutions, bilinear upsampling.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the output (logits).
        depth: layers of the ResNet.
        pretrained: for images in [0, 1]; "coco" starts all but the last convolution, "imagenet" the ResNet alone.

    Source: Long et al. 2015, "Fully Convolutional Networks for Semantic Segmentation";
        https://docs.pytorch.org/vision/stable/models/fcn.html.

    Raises:
        ValueError: the pretrained weights do not fit or cannot be downloaded.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        depth: Literal[50, 101] = 50,
        pretrained: Literal["coco", "imagenet", "none"] = "none",
    ) -> None:
        super().__init__()
        build, coco, imagenet = NETWORKS[depth]
        self.network = build(weights=None, weights_backbone=None, num_classes=out_channels, aux_loss=False)
        if in_channels != 3:
            self.network.backbone.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(self.network.backbone.conv1.weight, mode="fan_out", nonlinearity="relu")
        if pretrained == "coco":
            weights = pretrained_weights(coco, in_channels, "backbone.conv1", "backbone.bn1")
            # Its 21 classes and its auxiliary head are not ours.
            taken = {k: v for k, v in weights.items() if not k.startswith(("classifier.4.", "aux_classifier."))}
            own = {k: v for k, v in self.network.state_dict().items() if k.startswith("classifier.4.")}
            self.network.load_state_dict(taken | own)
        if pretrained == "imagenet":
            weights = pretrained_weights(imagenet, in_channels, "conv1", "bn1")
            self.network.backbone.load_state_dict({k: v for k, v in weights.items() if not k.startswith("fc.")})

    def forward(self, image: Tensor) -> Tensor:
        """Maps images (B, in_channels, H, W) of any size to logits (B, out_channels, H, W)."""
        output: Tensor = self.network(image)["out"]
        return output
