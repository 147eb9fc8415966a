from pathlib import Path
from typing import Literal
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision.models import ResNet50_Weights, resnet50
from torchvision.models.segmentation import FCN_ResNet50_Weights, fcn_resnet50
from torchvision.transforms.functional import normalize

from lightning_modules.networks.fcn import TorchvisionFCN

LAST = "network.classifier.4."
# What takes up ImageNet's normalisation.
ADAPTED = ("network.backbone.conv1.weight", "network.backbone.bn1.running_mean")


@pytest.mark.parametrize(("depth", "blocks"), [(50, [3, 4, 6, 3]), (101, [3, 4, 23, 3])])
def test_the_backbone_has_the_blocks_of_its_resnet(depth: Literal[50, 101], blocks: list[int]) -> None:
    with torch.device("meta"):
        network = TorchvisionFCN(1, 2, depth).network
    assert [len(network.backbone[f"layer{k}"]) for k in (1, 2, 3, 4)] == blocks
    # Three convolutions a bottleneck and the first one: with ResNet's own last layer, its depth.
    kept = [name for name, module in network.backbone.named_modules() if isinstance(module, nn.Conv2d)]
    assert len([name for name in kept if "downsample" not in name]) == depth - 1
    assert (network.backbone.conv1.in_channels, network.classifier[-1].out_channels) == (1, 2)
    assert network.aux_classifier is None


def provide(weights: ResNet50_Weights | FCN_ResNet50_Weights, network: nn.Module, folder: Path) -> None:
    """Fills a network with random numbers and puts it where torch.hub keeps its downloads."""
    torch.manual_seed(0)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.1, 1)
    (folder / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(network.state_dict(), folder / "hub" / "checkpoints" / Path(weights.url).name)


@pytest.fixture
def coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """COCO's network, with random weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with torch.device("meta"):
        network = fcn_resnet50(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    network.to_empty(device="cpu")
    provide(FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1, network, tmp_path)
    return network.eval()


@pytest.mark.parametrize("channels", [1, 3])
def test_coco_starts_all_but_the_last_convolution(coco: nn.Module, channels: int) -> None:
    network = TorchvisionFCN(channels, 2, pretrained="coco").eval()
    theirs = coco.state_dict()
    for name, value in network.state_dict().items():
        if not name.startswith(LAST) and name not in ADAPTED:
            assert torch.equal(value, theirs[name.removeprefix("network.")]), name

    image = torch.rand(1, channels, 32, 32)
    normalized = normalize(image.expand(-1, 3, -1, -1), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    own, other = network.network.backbone, coco.backbone
    with torch.no_grad():
        features, expected = own.bn1(own.conv1(image)), other.bn1(other.conv1(normalized))
    # A 7x7 kernel with stride 2 reaches over the edge from the outermost two.
    torch.testing.assert_close(features[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], atol=1e-3, rtol=1e-3)


def test_imagenet_starts_the_resnet_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with torch.device("meta"):
        resnet = resnet50()
    resnet.to_empty(device="cpu")
    provide(ResNet50_Weights.IMAGENET1K_V1, resnet, tmp_path)
    theirs = resnet.state_dict()
    for name, value in TorchvisionFCN(pretrained="imagenet").network.backbone.state_dict().items():
        assert f"network.backbone.{name}" in ADAPTED or torch.equal(value, theirs[name]), name


def test_weights_that_cannot_be_downloaded_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(ValueError, match=r"fcn_resnet101_coco-7ecb50ca\.pth .* or set pretrained to none\.$"):
        TorchvisionFCN(depth=101, pretrained="coco")
