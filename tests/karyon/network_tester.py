"""What every dense network must pass; a new network needs one line in test_networks.py."""

import torch
from torch import nn


def check_network(network: nn.Module, in_channels: int, out_channels: int) -> None:
    """Shapes at odd sizes, gradients in every weight, independence of the batch, export."""
    network.eval()
    for size in [(64, 64), (65, 70), (33, 96)]:
        output = network(torch.rand(2, in_channels, *size))
        assert output.shape == (2, out_channels, *size)
        assert torch.isfinite(output).all()

    image = torch.rand(2, in_channels, 64, 64)
    with torch.no_grad():
        together, alone = network(image), network(image[1:])
    torch.testing.assert_close(together[1:], alone, atol=1e-4, rtol=1e-4)

    network.train()
    network(image).square().mean().backward()
    without = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []

    network.eval()
    odd = torch.rand(1, in_channels, 65, 70)
    exported = torch.export.export(network, (odd,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(odd), network(odd), atol=1e-5, rtol=1e-5)
