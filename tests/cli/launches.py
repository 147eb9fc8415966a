"""Types ``python -m cli`` in processes of their own that need not import torch: a server that has forks them."""

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

# Unlike pytest's own process the server has never trained, and autograd's threads do not survive a fork.
CONTEXT = multiprocessing.get_context("forkserver")
# The first optimizer imports torch._dynamo, which takes as long as a small run.
PRELOADED = ["torch._dynamo", "lightning.pytorch.cli", "torchmetrics.detection", "cli.train"]
CONTEXT.set_forkserver_preload([*PRELOADED, "datamodules.synthetic", "lightning_modules.segmenter"])
PATIENCE = 600.0  # s; far more than any of them takes, so that none waits for ever


def start(folder: Path, *args: object, log: str = "log", env: Mapping[str, str] | None = None) -> BaseProcess:
    """Types a command in a folder; what it says goes to a file there."""
    process = CONTEXT.Process(target=_type_in, args=(folder, [str(arg) for arg in args], log, dict(env or {})))
    process.start()
    return process


def start_ranks(folder: Path, *args: object, log: str = "log", count: int = 2) -> list[BaseProcess]:
    """Types a command in several processes that know of each other, as torchrun does; each has a log of its own."""
    return [start(folder, *args, log=f"{log}{rank}", env=environment) for rank, environment in enumerate(_world(count))]


def call_ranks(function: Callable[..., Any], *args: object, count: int = 2) -> list[BaseProcess]:
    """Calls a function in several processes that know of each other."""
    processes = [CONTEXT.Process(target=_call, args=(environment, function, args)) for environment in _world(count)]
    for process in processes:
        process.start()
    return processes


def wait_for_epochs(process: BaseProcess, log: Path, count: int, longest_s: float = PATIENCE) -> None:
    """Until a process has said that it has finished some epochs, or has ended, or the time is up."""
    end = time.monotonic() + longest_s
    while process.is_alive() and (left := end - time.monotonic()) > 0:
        if log.exists() and log.read_text().count("\nepoch ") >= count:
            break
        process.join(min(left, 0.05))


def kill(*processes: BaseProcess) -> None:
    """Ends processes that run with SIGKILL."""
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
        assert process.exitcode == -signal.SIGKILL


def exit_codes(processes: Sequence[BaseProcess]) -> list[int | None]:
    """Waits for processes; those that do not end are killed, and have no exit code."""
    end = time.monotonic() + PATIENCE
    codes = []
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
        codes.append(process.exitcode)
    for process in processes:
        process.kill()
    return codes


def _world(count: int) -> list[dict[str, str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    world |= {"TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": 0}
    environments = [{**world, "RANK": rank, "LOCAL_RANK": rank} for rank in range(count)]
    return [{key: str(value) for key, value in environment.items()} for environment in environments]


def _call(env: Mapping[str, str], function: Callable[..., Any], args: Sequence[object]) -> None:
    os.environ.update(env)
    import torch

    torch.set_num_threads(1)
    function(*args)


def _type_in(folder: Path, args: list[str], log: str, env: Mapping[str, str]) -> None:
    file = os.open(folder / log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.chdir(folder)
    os.environ.update(env)
    import torch
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    from cli.__main__ import main

    torch.set_num_threads(1)
    # As in a process that nobody forked: each worker of a loader would start a server of its own, and wait for it.
    multiprocessing.set_start_method("fork", force=True)
    # Lightning has read it on import, which here was before there were ranks.
    rank_zero_only.rank = int(env.get("RANK", 0))
    sys.argv = ["cli", *args]
    sys.exit(main())
