"""What ``python -m cli fit`` costs over a bare PyTorch loop: the same network, loss, optimizer, loader and batches.

Run on a quiet machine: ``uv run python tests/benchmarks/bench_step.py [CONFIG] [--epochs N]``. Epochs of both
alternate in one process; it prints the seconds a step of each and their ratio.
"""

import argparse
import copy
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from cli.train import KaryonCLI
from karyon.batch import Batch

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


class BareLoop(Callback):
    """After each epoch of the Trainer's, one over the same loader without it."""

    def __init__(self) -> None:
        self.trainer_s: list[float] = []
        self.bare_s: list[float] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module: Any = pl_module
        self.network = copy.deepcopy(module.network)
        self.loss = module.representation.loss
        self.optimizer = module.optimizer(self.network.parameters())

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        steps = trainer.num_training_batches
        self.trainer_s.append((time.perf_counter() - self.start) / steps)
        self.bare_s.append(self.bare_epoch(trainer.train_dataloader))

    def bare_epoch(self, loader: Any) -> float:
        """Seconds a step."""
        start = time.perf_counter()
        self.network.train()
        batch: Batch
        for batch in loader:
            loss = self.loss(self.network(batch.image), batch.labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return (time.perf_counter() - start) / len(loader)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The first epoch warms up.
        ratios = [ours / bare for ours, bare in zip(self.trainer_s[1:], self.bare_s[1:], strict=True)]
        print(f"cli fit:   {statistics.median(self.trainer_s[1:]) * 1e3:8.1f} ms a step")
        print(f"bare loop: {statistics.median(self.bare_s[1:]) * 1e3:8.1f} ms a step")
        print(f"ratio:     {statistics.median(ratios):8.3f}  (epoch by epoch: {min(ratios):.3f} to {max(ratios):.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", type=Path, default=QUICKSTART)
    parser.add_argument("--epochs", type=int, default=8)
    arguments, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as runs:
        sys.argv = ["cli", "fit", "--config", str(arguments.config), "--runs_dir", runs, "--test_after_fit", "false"]
        sys.argv += ["--trainer.max_epochs", str(arguments.epochs), "--trainer.limit_val_batches", "0"]
        sys.argv += ["--trainer.callbacks", "[{class_path: bench_step.BareLoop}]", *rest]
        KaryonCLI()


if __name__ == "__main__":
    main()
