"""What a second process costs and brings: steps and images a second of ``python -m cli fit`` with one and with two.

Run on a quiet machine: ``uv run python tests/benchmarks/bench_ddp.py [CONFIG] [--rounds N] [--option value ...]``.
Every process trains with the whole batch size on one core, so that two would see twice the images of one at no cost.
Runs of both take turns. Beside the time that passes it prints the time that a process works in a step, which
other work on the machine changes little: what it grows by is the cost of DDP. Options go to the command line: with
``--trainer.accelerator gpu`` each process has a GPU.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

ROOT = Path(__file__).parents[2]


class StepClock(Callback):
    """Prints the seconds of the steps of a training: passed, and worked by this process."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The first epoch warms up.
        if trainer.current_epoch == 1:
            self.start = time.perf_counter(), time.process_time(), trainer.global_step

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        passed, worked = time.perf_counter() - self.start[0], time.process_time() - self.start[1]
        steps = trainer.global_step - self.start[2]
        if trainer.is_global_zero:
            print("clock", json.dumps({"passed": passed / steps, "worked": worked / steps}), flush=True)


def measure(config: Path, processes: int, options: list[str]) -> dict[str, float]:
    """Seconds of a step."""
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "cli", "fit", "--config", str(config), "--runs_dir", runs, "--name", "bench"]
        command += ["--trainer.max_epochs", "3", "--trainer.limit_val_batches", "0", "--test_after_fit", "false"]
        command += ["--data.init_args.num_workers", "0", "--trainer.callbacks", "[{class_path: bench_ddp.StepClock}]"]
        command += ["--trainer.accelerator", "cpu", "--trainer.devices", str(processes)]
        command += ["--trainer.strategy", "ddp" if processes > 1 else "auto", *options]
        environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"}
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("clock ")]
    if len(lines) != 1:
        sys.exit(done.stdout + done.stderr)
    clock: dict[str, float] = json.loads(lines[0].removeprefix("clock "))
    return clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", type=Path, default=ROOT / "configs" / "quickstart.yaml")
    parser.add_argument("--rounds", type=int, default=3)
    arguments, options = parser.parse_known_args()
    found: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    for _ in range(arguments.rounds):
        for processes, clocks in found.items():
            clocks.append(measure(arguments.config, processes, options))
    for processes, clocks in found.items():
        passed, worked = (statistics.median(clock[key] for clock in clocks) for key in ("passed", "worked"))
        print(f"{processes} x: {1 / passed:7.2f} steps/s of each process, {worked * 1e3:8.1f} ms of work a step")
    for key, title in (("passed", "images a second, two over one"), ("worked", "work a step, two over one")):
        ratios = [two[key] / one[key] for one, two in zip(found[1], found[2], strict=True)]
        ratios = [2 / ratio for ratio in ratios] if key == "passed" else ratios
        print(f"{title}: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
