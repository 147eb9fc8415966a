"""A run that is killed at random moments, each time in the middle of something, ends with the weights it would have."""

import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from config_files import learned
from launches import exit_codes, kill, start, wait_for_epochs
from small_runs import SMALL, last, version

KILLS = 5
EPOCHS = 12

# All that has a state: averaged weights, a schedule, an order of images that goes on from epoch to epoch. An epoch has
# six steps, the last of one image; checkpoints are written within epochs and at their ends.
COMMAND = [
    "fit",
    *SMALL,
    "--test_after_fit=false",
    "--data.init_args.balance=0.5",
    "--data.init_args.samples_per_epoch=11",
    "--data.init_args.num_workers=1",
    "--last_checkpoint.every_n_train_steps=4",
    "--trainer.max_epochs=-1",
    f"--trainer.max_steps={6 * EPOCHS}",
    "--trainer.val_check_interval=5",
    "--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging",
    "--trainer.callbacks.decay=0.9",
]


def same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


@pytest.mark.slow
def test_killed_at_random_moments_and_never_killed_end_with_the_same_weights(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    process = start(whole, *COMMAND)
    wait_for_epochs(process, whole / "log", 1)
    begun = time.monotonic()
    assert exit_codes([process]) == [0]
    epoch_s = (time.monotonic() - begun) / (EPOCHS - 1)

    moments = random.Random()
    for number in range(KILLS):
        log = killed / f"log{number}"
        process = start(killed, *COMMAND, "--ckpt_path=last", log=log.name)
        # After an epoch, so that each start gets further, and before the end of the next, so that none gets to the end.
        wait_for_epochs(process, log, 1)
        wait_for_epochs(process, log, 2, moments.uniform(0, epoch_s))
        kill(process)
    assert exit_codes([start(killed, *COMMAND, "--ckpt_path=last", log="log")]) == [0]

    assert "Resuming" in (killed / "log").read_text()
    states = [last(folder) for folder in (whole, killed)]
    assert states[0]["global_step"] == 6 * EPOCHS
    for part in ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers", "global_step", "epoch"):
        assert same(states[0][part], states[1][part]), part
    metrics = [learned(version(folder) / "metrics.csv") for folder in (whole, killed)]
    rows, others = ([row for row in found if row["epoch"] == str(EPOCHS - 1)] for found in metrics)
    assert rows == others and any(row["val/loss"] for row in rows)
