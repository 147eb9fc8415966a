"""Torchvision's detectors for nuclei: the same as torchvision's own, but for what they are told here."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import box_iou

from karyon.networks.feature_pyramid import ResNetFPN
from karyon.networks.inception_resnet import inception_resnet
from karyon.networks.rcnn import ANCHOR_SIZES, FasterRCNN, MaskRCNN
from karyon.networks.single_level_rcnn import SingleLevelFasterRCNN, dilate

Build = Callable[..., Any]


def small(build: Build, **kwargs: object) -> Any:
    torch.manual_seed(0)
    return build(ResNetFPN(18, channels=8), **{"proposals": 300, "detections": 150, **kwargs})


def torchvisions_own(build: Build, **kwargs: object) -> Any:
    """The same network put together without ours, told to leave a 64 x 96 image as it is."""
    ratios = ((0.5, 1.0, 2.0),) * 4
    limits = {
        f"rpn_{when}_nms_top_n_{stage}": n for when, n in (("pre", 600), ("post", 300)) for stage in ("train", "test")
    }
    return build(
        ResNetFPN(18, channels=8),
        min_size=64,
        max_size=96,
        image_mean=[0.0, 0.0, 0.0],
        image_std=[1.0, 1.0, 1.0],
        rpn_anchor_generator=AnchorGenerator(ANCHOR_SIZES, ratios),
        rpn_head=RPNHead(8, 9, conv_depth=2),
        box_head=FastRCNNConvFCHead((8, 7, 7), [8] * 4, [32], norm_layer=nn.BatchNorm2d),
        box_predictor=FastRCNNPredictor(32, 2),
        box_detections_per_img=150,
        **limits,
        **kwargs,
    ).eval()


def test_boxes_and_scores_are_those_of_torchvisions_faster_rcnn() -> None:
    ours, theirs = small(FasterRCNN).eval(), torchvisions_own(detection.FasterRCNN)
    theirs.load_state_dict(ours.state_dict())
    image = torch.rand(3, 64, 96)
    with torch.no_grad():
        found, expected = ours([image])[0], theirs([image])[0]
    # More than the hundred that torchvision keeps by default.
    assert len(found["scores"]) == 150
    assert torch.equal(found["boxes"], expected["boxes"])
    assert torch.equal(found["scores"], expected["scores"])


def test_masks_are_those_of_torchvisions_mask_rcnn_before_they_are_pasted() -> None:
    heads = {
        "mask_head": MaskRCNNHeads(8, [8] * 4, 1, norm_layer=nn.BatchNorm2d),
        "mask_predictor": MaskRCNNPredictor(8, 8, 2),
    }
    ours, theirs = small(MaskRCNN).eval(), torchvisions_own(detection.MaskRCNN, **heads)
    theirs.load_state_dict(ours.state_dict())
    image = torch.rand(3, 64, 96)
    with torch.no_grad():
        found, expected = ours([image])[0], theirs([image])[0]
    assert torch.equal(found["boxes"], expected["boxes"])
    assert found["masks"].shape == (150, 1, 28, 28)
    assert torch.equal(paste_masks_in_image(found["masks"], found["boxes"], (64, 96)), expected["masks"])


def test_images_of_several_sizes_share_a_batch() -> None:
    network = small(FasterRCNN, detections=20).eval()
    wide, small_one = torch.rand(3, 64, 60), torch.rand(3, 50, 40)
    with torch.no_grad():
        together, alone = network([wide, small_one])[1], network([small_one])[0]
    torch.testing.assert_close(together["boxes"], alone["boxes"])
    assert (alone["boxes"].amax(0)[2:] <= torch.tensor([40, 50])).all()


@pytest.mark.parametrize("build", [FasterRCNN, MaskRCNN])
def test_images_without_any_object_are_learned_from(build: Build) -> None:
    network = small(build, samples=16, proposals=20)
    nothing = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 64, 64, dtype=torch.uint8),
    }
    losses = network(list(torch.rand(2, 3, 64, 64)), [nothing, nothing])
    sum(losses.values()).backward()
    assert losses["loss_objectness"] > 0 and losses["loss_classifier"] > 0
    assert all(losses[name] == 0 for name in losses if name in ("loss_box_reg", "loss_rpn_box_reg", "loss_mask"))
    # Batch norm over no regions at all must not spoil its running statistics.
    assert all(value.isfinite().all() for value in network.state_dict().values())


def test_coordinates_stay_exact_in_bf16() -> None:
    network = small(FasterRCNN, box_convolutions=0).eval()
    for layer in (network.rpn.head.bbox_pred, network.roi_heads.box_predictor.bbox_pred):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    image = torch.rand(3, 32, 1024)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        (found,) = network([image])
    features = [torch.zeros(1, 1, 32 // stride, 1024 // stride) for stride in (4, 8, 16, 32)]
    anchors = network.rpn.anchor_generator(ImageList(image[None], [(32, 1024)]), features)[0]
    anchors[:, 0::2].clamp_(0, 1024), anchors[:, 1::2].clamp_(0, 32)
    # Moved by nothing, each box is an anchor; in bf16 those beyond 256 px would be off by up to 2 px.
    far = found["boxes"][found["boxes"][:, 0] > 256]
    assert len(far) > 20
    assert torch.cdist(far, anchors).amin(1).max() < 0.01


def anchors_of(network: nn.Module, strides: tuple[int, ...], size: int) -> Tensor:
    features = [torch.zeros(1, 1, size // stride, size // stride) for stride in strides]
    return network.rpn.anchor_generator(ImageList(torch.zeros(1, 3, size, size), [(size, size)]), features)[0]


def squares(sides: list[int], centres: Tensor) -> Tensor:
    half = torch.tensor(sides, dtype=torch.float32)[:, None] / 2
    return torch.stack([centres - half, centres - half, centres + half, centres + half], dim=-1).reshape(-1, 4)


def test_every_nucleus_of_3_to_140_px_has_an_anchor_of_its_size() -> None:
    # On a corner that the grids of all levels share.
    nuclei = squares(list(range(3, 141)), torch.tensor([192.0]))
    assert box_iou(nuclei, anchors_of(small(FasterRCNN), (4, 8, 16, 32), 384)).amax(1).min() >= 0.5


@pytest.mark.parametrize("side", [11, 17, 24, 48, 100, 140])
def test_wherever_a_nucleus_lies_an_anchor_is_near(side: int) -> None:
    anchors = anchors_of(small(FasterRCNN), (4, 8, 16, 32), 384)
    best = box_iou(squares([side], torch.arange(176, 208.5, 0.5)), anchors).amax(1)
    assert best.min() >= 0.5


@pytest.mark.parametrize(("depth", "strides"), [(5, [2, 4, 8, 16, 32]), (4, [2, 4, 8, 8])])
def test_the_maps_of_inception_resnet_line_up_with_the_image(depth: int, strides: list[int]) -> None:
    """The centre of value k is s k for a stride s, if maps are (W - 1) / s + 1 wide and are mirrored with the image."""
    torch.manual_seed(0)
    encoder = inception_resnet(3, "none", depth).eval()
    if strides[-1] == 8:
        dilate(encoder.mixed_6a, encoder.repeat_1)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            mirrored = module.weight + module.weight.flip(-1)
            module.weight = nn.Parameter(mirrored + mirrored.flip(-2))
    image = torch.rand(1, 3, 33, 65)
    with torch.no_grad():
        maps, turned = encoder(image)[1:], encoder(image.flip(-1, -2))[1:]
    for stride, single, other in zip(strides, maps, turned, strict=True):
        assert single.shape[-2:] == (32 // stride + 1, 64 // stride + 1)
        torch.testing.assert_close(other.flip(-1, -2), single, rtol=1e-3, atol=1e-4 * float(single.abs().max()))


def test_one_map_and_its_last_blocks_detect() -> None:
    torch.manual_seed(0)
    network = SingleLevelFasterRCNN(proposals=2, samples=2)
    target = {"boxes": torch.tensor([[4.0, 4.0, 20.0, 20.0]]), "labels": torch.ones(1, dtype=torch.int64)}
    image = torch.rand(3, 32, 32)
    assert all(loss.isfinite() for loss in network([image], [target]).values())
    with torch.no_grad():
        (found,) = network.eval()([image])
        assert network.backbone(image[None]).shape[-2:] == (4, 4)
    assert len(found["boxes"]) <= 2
    best = box_iou(squares(list(range(3, 141)), torch.tensor([192.0])), anchors_of(network, (8,), 384)).amax(1)
    assert best.min() >= 0.5


def test_resnet_101_has_its_blocks() -> None:
    with torch.device("meta"):
        body = ResNetFPN(101, in_channels=1).body
    assert [len(body[f"layer{k}"]) for k in (1, 2, 3, 4)] == [3, 4, 23, 3]
    assert body["conv1"].in_channels == 1
