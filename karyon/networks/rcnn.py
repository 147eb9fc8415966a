"""Torchvision's Faster R-CNN and Mask R-CNN for nuclei: small, many, of one class, in images of any size."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import (
    FasterRCNN_ResNet50_FPN_V2_Weights,
    FastRCNNConvFCHead,
    FastRCNNPredictor,
)
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNN_ResNet50_FPN_V2_Weights, MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from karyon.networks.feature_pyramid import FeaturePyramid, ResNetFPN
from karyon.networks.pretrained import pretrained_weights

# Sides of the square anchors at each level, px. Among the 29,461 nuclei of DSB2018's training images the longer side of
# a box is from 5 to 139 px, half of them 15 to 33 px, and the sides' ratio from .5 to 1.9 for nine in ten. An anchor
# fits a nucleus well only where the grid is fine: with its own side, but moved by half a stride both ways, it keeps an
# IoU of .5 if the side is 2.7 strides. So the small ones crowd on the finest level. 96 % of these nuclei have an anchor
# of IoU .5 or more, with torchvision's sizes (32 to 512 px) 44 %.
ANCHOR_SIZES = ((4, 8, 14), (20, 28, 40), (56, 72, 88), (112, 136, 160))
ASPECT_RATIOS = (0.5, 1.0, 2.0)
NUCLEUS_OR_NOT = 2
# What of COCO's weights belongs to its classes, and to anchors of another number and size.
OF_COCO_ALONE = (
    "roi_heads.box_predictor.",
    "roi_heads.mask_predictor.mask_fcn_logits.",
    "rpn.head.cls_logits.",
    "rpn.head.bbox_pred.",
)


class FasterRCNN(detection.FasterRCNN):
    """Faster R-CNN on a feature pyramid, with torchvision's second version of the heads.

    Images are neither resized nor normalised here, which is the data module's part, and may differ in size.

    Args:
        backbone: the pyramid.
        anchor_sizes: sides of the square anchors at each of the four levels, px.
        aspect_ratios: height to width of the anchors.
        proposals: regions that the proposal network hands on for each image.
        detections: at most so many are kept for each image.
        samples: regions of each image that the box head is trained on.
        box_convolutions: of the box head, before its linear layers: 4 as in torchvision's second version, 0 as
            published, with one linear layer more, and many times as fast on a CPU.
        pretrained: "coco" starts all but the last layers, for images in [0, 1]; needs `ResNetFPN` of depth 50.

    Source: Ren et al. 2015, https://arxiv.org/abs/1506.01497; Li et al. 2021, https://arxiv.org/abs/2111.11429;
        https://docs.pytorch.org/vision/stable/models/faster_rcnn.html.

    Raises:
        ValueError: the pretrained weights do not fit or cannot be downloaded.
    """

    def __init__(
        self,
        backbone: FeaturePyramid,
        anchor_sizes: Sequence[Sequence[int]] = ANCHOR_SIZES,
        aspect_ratios: Sequence[float] = ASPECT_RATIOS,
        proposals: int = 2000,
        detections: int = 1000,
        samples: int = 512,
        box_convolutions: int = 4,
        pretrained: Literal["coco", "none"] = "none",
    ) -> None:
        heads = box_heads(backbone.out_channels, len(anchor_sizes[0]) * len(aspect_ratios), box_convolutions)
        limits = for_nuclei(anchor_sizes, aspect_ratios, proposals, detections, samples)
        super().__init__(backbone, **heads, **limits)
        self.transform = Batching()
        if pretrained == "coco":
            start_with_coco(self, FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1)


class MaskRCNN(detection.MaskRCNN):
    """Mask R-CNN on a feature pyramid, with torchvision's second version of the heads.

    Other than torchvision's it leaves each mask in its box, (N, 1, 28, 28): 2,000 masks of 2048 x 2048 px would fill
    34 GB.

    Args:
        backbone, anchor_sizes, aspect_ratios, proposals, detections, samples, box_convolutions, pretrained: as in
            `FasterRCNN`.

    Source: He et al. 2017, https://arxiv.org/abs/1703.06870; Li et al. 2021, https://arxiv.org/abs/2111.11429;
        https://docs.pytorch.org/vision/stable/models/mask_rcnn.html.

    Raises:
        ValueError: the pretrained weights do not fit or cannot be downloaded.
    """

    def __init__(
        self,
        backbone: FeaturePyramid,
        anchor_sizes: Sequence[Sequence[int]] = ANCHOR_SIZES,
        aspect_ratios: Sequence[float] = ASPECT_RATIOS,
        proposals: int = 2000,
        detections: int = 1000,
        samples: int = 512,
        box_convolutions: int = 4,
        pretrained: Literal["coco", "none"] = "none",
    ) -> None:
        width = backbone.out_channels
        heads = box_heads(width, len(anchor_sizes[0]) * len(aspect_ratios), box_convolutions)
        limits = for_nuclei(anchor_sizes, aspect_ratios, proposals, detections, samples)
        super().__init__(
            backbone,
            mask_head=MaskRCNNHeads(width, [width] * 4, dilation=1, norm_layer=nn.BatchNorm2d),
            mask_predictor=MaskRCNNPredictor(width, width, NUCLEUS_OR_NOT),
            **heads,
            **limits,
        )
        self.transform = Batching()
        if pretrained == "coco":
            start_with_coco(self, MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1)


class Batching(GeneralizedRCNNTransform):
    """Puts images of any sizes into one batch, padded with zeros, and does nothing else."""

    def __init__(self) -> None:
        super().__init__(min_size=0, max_size=0, image_mean=[0.0], image_std=[1.0], size_divisible=32)

    def normalize(self, image: Tensor) -> Tensor:
        return image

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        return image, target

    def postprocess(self, result: list[dict[str, Tensor]], image_shapes: Any, original_image_sizes: Any) -> Any:
        return result


class ProposalHead(RPNHead):
    """Torchvision's, in full precision at its end: bf16 knows a position of 300 px by twos only."""

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, deltas = super().forward(features)
        return [level.float() for level in logits], [level.float() for level in deltas]


class BoxPredictor(FastRCNNPredictor):
    """Torchvision's, in full precision at its end."""

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        logits, deltas = super().forward(regions)
        return logits.float(), deltas.float()


def box_heads(width: int, anchors: int, convolutions: int) -> dict[str, nn.Module]:
    """The heads of a detector on a feature pyramid.

    Args:
        width: channels of the pyramid.
        anchors: at each position.
        convolutions: of the box head.
    """
    linear = [4 * width] * (1 if convolutions else 2)
    return {
        "rpn_head": ProposalHead(width, anchors, conv_depth=2),
        "box_head": FastRCNNConvFCHead((width, 7, 7), [width] * convolutions, linear, norm_layer=nn.BatchNorm2d),
        "box_predictor": BoxPredictor(4 * width, NUCLEUS_OR_NOT),
    }


def for_nuclei(
    anchor_sizes: Sequence[Sequence[int]],
    aspect_ratios: Sequence[float],
    proposals: int,
    detections: int,
    samples: int,
) -> dict[str, Any]:
    """Torchvision's names for what depends on the objects; see `FasterRCNN`."""
    ratios = (tuple(aspect_ratios),) * len(anchor_sizes)
    return {
        "rpn_anchor_generator": AnchorGenerator(tuple(tuple(sizes) for sizes in anchor_sizes), ratios),
        # Of each level, before non-maximum suppression.
        **{f"rpn_pre_nms_top_n_{stage}": 2 * proposals for stage in ("train", "test")},
        **{f"rpn_post_nms_top_n_{stage}": proposals for stage in ("train", "test")},
        "box_detections_per_img": detections,
        "box_batch_size_per_image": samples,
    }


def start_with_coco(network: GeneralizedRCNN, weights: Any) -> None:
    """Loads COCO's weights, but for the layers that belong to its classes and anchors.

    Raises:
        ValueError: the network is another one, or the weights cannot be downloaded.
    """
    own = network.state_dict()
    backbone = network.backbone
    if not isinstance(backbone, ResNetFPN) or (backbone.depth, backbone.out_channels) != (50, 256):
        raise ValueError("COCO weights are for ResNetFPN of depth 50 with 256 channels: set pretrained to none.")
    state = pretrained_weights(weights, backbone.in_channels, "backbone.body.conv1", "backbone.body.bn1")
    taken = {name: value for name, value in state.items() if not name.startswith(OF_COCO_ALONE)}
    if any(name not in own or own[name].shape != value.shape for name, value in taken.items()):
        raise ValueError("COCO weights are for box heads with 4 convolutions: set box_convolutions to 4.")
    network.load_state_dict({**own, **taken})
