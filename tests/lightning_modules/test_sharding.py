"""Every process keeps its share of the weights, and all together compute what one does."""

from pathlib import Path

import pytest
import torch
from launches import call_ranks, exit_codes
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from lightning_modules.networks.unet import UNet
from lightning_modules.sharding import large_parts, shard


def network() -> UNet:
    torch.manual_seed(0)
    return UNet(widths=[8, 16], dropout=[0.0, 0.0])


IMAGES = torch.linspace(0, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16)


def share(folder: Path) -> None:
    """What a process keeps, computes and learns."""
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    sharded = network()
    shard(sharded, 1000, init_device_mesh("cpu", (2,)))
    output = sharded(IMAGES[rank : rank + 1])
    output.square().mean().backward()
    kept = [parameter.to_local() for parameter in sharded.parameters() if isinstance(parameter, DTensor)]
    found = {
        "kept": sum(part.numel() for part in kept),
        "output": output.detach(),
        "gradients": {
            name: parameter.grad.full_tensor()
            for name, parameter in sharded.named_parameters()
            if isinstance(parameter.grad, DTensor)
        },
        "parts": sum(isinstance(part, FSDPModule) for part in sharded.modules()),
    }
    torch.save(found, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_keep_half_of_the_weights_each_and_learn_as_one(tmp_path: Path) -> None:
    assert exit_codes(call_ranks(share, tmp_path)) == [0, 0]
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    whole = network()
    output = whole(IMAGES)
    output.square().mean().backward()
    total = sum(parameter.numel() for parameter in whole.parameters())
    assert sum(single["kept"] for single in found) == total
    assert max(single["kept"] for single in found) < 0.6 * total
    assert found[0]["parts"] > 2
    torch.testing.assert_close(torch.cat([single["output"] for single in found]), output.detach())
    for name, parameter in whole.named_parameters():
        torch.testing.assert_close(found[0]["gradients"][name], parameter.grad)


@pytest.mark.parametrize("least", [1, 50, 1000, 10**9])
def test_parts_share_no_parameters_and_are_large_enough(least: int) -> None:
    parts = large_parts(network(), least)
    counted: set[nn.Parameter] = set()
    for part in parts:
        rest = set(part.parameters()) - counted
        assert sum(parameter.numel() for parameter in rest) >= least
        counted |= rest
    assert bool(parts) == (least < 10**9)
