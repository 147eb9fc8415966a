import pytest
import torch
from torch import nn

from karyon.networks.fc_densenet import DenseBlock, FCDenseNet

# Parameters and the batch norms' running statistics, as the authors' code counts them, with CamVid's 11 classes. The
# paper's table says 1.5, 3.5 and 9.4 million; for the smallest its layout gives 1.4.
PAPER = [
    pytest.param(12, (4,) * 5, 4, 56, 1_397_963, id="FC-DenseNet56"),
    pytest.param(16, (5,) * 5, 5, 67, 3_502_923, id="FC-DenseNet67"),
    pytest.param(16, (4, 5, 7, 10, 12), 15, 103, 9_425_163, id="FC-DenseNet103"),
]


@pytest.mark.parametrize(("growth_rate", "layers", "bottleneck", "depth", "size"), PAPER)
def test_fc_densenet_is_that_of_the_paper(
    growth_rate: int, layers: tuple[int, ...], bottleneck: int, depth: int, size: int
) -> None:
    with torch.device("meta"):
        network = FCDenseNet(3, 11, growth_rate, layers, bottleneck)
    # Of one layer each: convolutions, transitions down (1x1 convolutions) and transitions up (transposed ones).
    kinds = nn.Conv2d, nn.ConvTranspose2d
    assert len([module for module in network.modules() if isinstance(module, kinds)]) == depth
    assert len(network.transition_up) == len(network.transition_down) == 5
    running = sum(buffer.numel() for name, buffer in network.named_buffers() if "running" in name)
    assert sum(parameter.numel() for parameter in network.parameters()) + running == size


def test_fc_densenet103_has_the_channels_of_table_2() -> None:
    with torch.device("meta"):
        network = FCDenseNet(3, 11)

    def total(block: nn.Module) -> int:
        convolutions = [layer[2] for layer in block.layers]
        return convolutions[0].in_channels + sum(convolution.out_channels for convolution in convolutions)

    assert [total(block) for block in network.down] == [112, 192, 304, 464, 656]
    assert total(network.bottleneck) == 896
    # Skip connection, upsampled and new features, such as 304 + 10 * 16 + 7 * 16. From the bottleneck on, the printed
    # table is 16 too low, as the authors' repository notes.
    assert [total(block) for block in network.up] == [1088, 816, 576, 384, 256]


def test_a_dense_layer_takes_all_before_it() -> None:
    block = DenseBlock(1, 1, 3, dropout=0)
    for layer in block.layers:
        layer.forward = lambda stack: stack.sum(1, keepdim=True)
    # 1; 1 + 1; 1 + 1 + 2: the sum of the input and of all layers so far.
    assert block(torch.ones(1, 1, 1, 1)).ravel().tolist() == [1, 2, 4]


def test_dropout_follows_every_layer_of_the_blocks() -> None:
    network = FCDenseNet(1, 1, 2, (2, 3), 4, dropout=0.3)
    rates = [module.p for module in network.modules() if isinstance(module, nn.Dropout)]
    # Two blocks down and two up, the bottleneck, and two transitions down.
    assert rates == [0.3] * (2 * (2 + 3) + 4 + 2)
