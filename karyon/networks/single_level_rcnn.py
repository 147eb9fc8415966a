"""Faster R-CNN on one map of Inception-ResNet-v2, as it was in 2017, before feature pyramids."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torchvision.models import detection
from torchvision.ops import MultiScaleRoIAlign

from karyon.networks.inception_resnet import inception_resnet
from karyon.networks.rcnn import ASPECT_RATIOS, NUCLEUS_OR_NOT, Batching, BoxPredictor, ProposalHead, for_nuclei

# px. All at one level, whose stride is too coarse for the smallest; see `karyon.networks.rcnn`.
ANCHOR_SIZES = (4, 8, 14, 20, 28, 40, 56, 80, 112, 160)


class SingleLevelFasterRCNN(detection.FasterRCNN):
    """Faster R-CNN whose regions are cut from Inception-ResNet-v2's middle and seen by its last blocks.

    Its first three quarters, up to the blocks of 17 x 17, look at the image once; the last blocks look at 17 x 17
    positions of each region, which takes a GPU. At a stride of 8 px the blocks of 17 x 17 are dilated. Everything as in
    the model zoo of 2017 (``faster_rcnn_inception_resnet_v2_atrous``), but for anchors and numbers, which are for
    nuclei, and RoIAlign in place of crops. See `karyon.networks.rcnn.FasterRCNN` for what they have in
    common.

    Args:
        stride: of the map, px.
        in_channels: of the image.
        anchor_sizes: sides of the square anchors, px.
        aspect_ratios: height to width of the anchors.
        proposals: regions that the proposal network hands on for each image.
        detections: at most so many are kept for each image.
        samples: regions of each image that the last blocks are trained on.
        pretrained: "imagenet" for images in [0, 1].

    Source: Huang et al. 2017, "Speed/accuracy trade-offs for modern convolutional object detectors",
        https://arxiv.org/abs/1611.10012

    Raises:
        ValueError: the pretrained weights do not fit or cannot be downloaded.
    """

    def __init__(
        self,
        stride: Literal[8, 16] = 8,
        in_channels: int = 3,
        anchor_sizes: Sequence[int] = ANCHOR_SIZES,
        aspect_ratios: Sequence[float] = ASPECT_RATIOS,
        proposals: int = 1000,
        detections: int = 1000,
        samples: int = 128,
        pretrained: Literal["imagenet", "none"] = "none",
    ) -> None:
        encoder = inception_resnet(in_channels, pretrained, depth=4)
        last_blocks = nn.Sequential(
            encoder.mixed_7a,
            encoder.repeat_2,
            encoder.block8,
            encoder.conv2d_7b,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        *_, width = encoder.out_channels
        del encoder.mixed_7a, encoder.repeat_2, encoder.block8, encoder.conv2d_7b
        if stride == 8:
            dilate(encoder.mixed_6a, encoder.repeat_1)
        super().__init__(
            _LastMap(encoder, width),
            rpn_head=ProposalHead(width, len(anchor_sizes) * len(aspect_ratios)),
            box_roi_pool=MultiScaleRoIAlign(["0"], output_size=17, sampling_ratio=2),
            box_head=last_blocks,
            box_predictor=BoxPredictor(1536, NUCLEUS_OR_NOT),
            **for_nuclei([anchor_sizes], aspect_ratios, proposals, detections, samples),
        )
        self.transform = Batching()


def dilate(reduction: nn.Module, blocks: nn.Module) -> None:
    """Halves the stride of what comes after a reduction, and dilates the kernels there, so that they reach as far."""
    for module in reduction.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d) and module.stride in (2, (2, 2)):
            module.stride = (1, 1)
    for module in blocks.modules():
        if isinstance(module, nn.Conv2d):
            module.dilation = (2, 2)
            module.padding = tuple(2 * int(width) for width in module.padding)


class _LastMap(nn.Module):
    """The last of an encoder's maps."""

    def __init__(self, encoder: nn.Module, out_channels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.out_channels = out_channels

    def forward(self, image: Tensor) -> Tensor:
        # In full precision, see `FeaturePyramid.forward`.
        features: Tensor = self.encoder(image)[-1].float()
        return features
