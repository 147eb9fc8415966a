"""Weights, gradients and optimizer states in shards over several processes, for networks too large for one device."""

import warnings
from datetime import timedelta
from functools import partial

import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from datamodules.sample import DataError

# Nothing of ours writes into what a network returns.
warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")


class Sharded(ModelParallelStrategy):
    """Fully sharded data parallelism (PyTorch's FSDP2) of any model of this package, on GPUs or CPUs.

    Each process keeps its share of every weight, and gathers a part of the network while it computes with it. Learns
    what DDP learns. A checkpoint holds the whole weights, so that any number of processes can read it.

    Args:
        min_parameters: parts of a network of at least so many parameters are gathered one at a time; the smaller, the
            less memory and the more communication.
        process_group_backend: NCCL for GPUs and gloo for CPUs by default.
        timeout_s: how long processes wait for each other.

    Source: https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
    """

    def __init__(
        self, min_parameters: int = 1_000_000, process_group_backend: str | None = None, timeout_s: float = 1800
    ) -> None:
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            process_group_backend=process_group_backend,
            timeout=timedelta(seconds=timeout_s),
        )
        self.min_parameters = min_parameters

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def connect(self, model: LightningModule) -> None:
        super().connect(model)
        # The hook in which Lightning wants a model to shard itself; ours know nothing of it.
        vars(model)["configure_model"] = partial(self._shard, model)

    def on_validation_start(self) -> None:
        # The statistics of batch norm differ between processes; all evaluate with those that are saved, as with DDP.
        assert self.model is not None
        for buffer in self.model.buffers():
            torch.distributed.broadcast(buffer, 0)

    def _shard(self, model: LightningModule) -> None:
        if any(isinstance(callback, WeightAveraging) for callback in model.trainer.callbacks):  # type: ignore[attr-defined]
            raise DataError(
                "Averaged weights cannot be sharded: leave WeightAveraging out of trainer.callbacks, or use DDP."
            )
        # A test behind a fit finds it done.
        if any(isinstance(module, FSDPModule) for module in model.modules()):
            return
        model.to(self.root_device)
        if self._layer_sync:
            self._layer_sync.apply(model)
        for part in model.children():
            if any(True for _ in part.parameters()):
                shard(part, self.min_parameters, self.device_mesh["data_parallel"])


def shard(network: nn.Module, min_parameters: int, mesh: DeviceMesh) -> None:
    """Shards a network and each part of it that has enough parameters beside those of its own such parts.

    Args:
        network: what is sharded in any case.
        min_parameters: of a part.
        mesh: the processes, in one dimension.
    """
    for part in large_parts(network, min_parameters):
        fully_shard(part, mesh=mesh)
    if not isinstance(network, FSDPModule):
        fully_shard(network, mesh=mesh)


def large_parts(network: nn.Module, min_parameters: int) -> list[nn.Module]:
    """The parts of a network, innermost first, that have enough parameters beside those of parts listed before.

    Containers that only hold other modules, without a forward pass of their own, are taken apart.

    >>> network = nn.Sequential(nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9)), nn.Linear(2, 2))
    >>> [type(part).__name__ for part in large_parts(network, 100)]
    ['Sequential']
    >>> [type(part).__name__ for part in large_parts(network, 90)]
    ['Linear', 'Linear']
    """
    found: list[nn.Module] = []
    counted: set[nn.Parameter] = set()

    def visit(module: nn.Module) -> None:
        for child in module.children():
            visit(child)
        rest = set(module.parameters()) - counted
        if not isinstance(module, nn.ModuleList | nn.ModuleDict) and sum(p.numel() for p in rest) >= min_parameters:
            found.append(module)
            counted.update(rest)

    visit(network)
    return found
