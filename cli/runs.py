"""Where runs lie: ``<runs_dir>/<name>/version_<n>/`` with its config, metrics and ``checkpoints/{best,last}.ckpt``."""

import pickle
from pathlib import Path

import torch
from torch import nn

from datamodules.sample import DataError
from lightning_modules.callbacks.run_record import run_folder


def find_checkpoint(runs_dir: Path, name: str, which: str) -> Path | None:
    """The newest ``best`` or ``last`` checkpoint among the versions of a run.

    Args:
        runs_dir: folder of all runs.
        name: of the run.
        which: ``best`` or ``last``.
    """
    found = (runs_dir / name).glob(f"version_*/checkpoints/{which}.ckpt")
    return max(found, key=lambda path: int(run_folder(path).name.removeprefix("version_")), default=None)


def resolve_trained(runs_dir: Path, name: str, ckpt_path: str | None) -> Path:
    """The checkpoint to validate, test or predict with.

    Args:
        runs_dir: folder of all runs.
        name: of the run.
        ckpt_path: a file, or ``best`` (the default) or ``last`` of the run.

    Raises:
        DataError: there is none.
    """
    which = ckpt_path or "best"
    path = find_checkpoint(runs_dir, name, which) if which in ("best", "last") else Path(which)
    if path is None:
        raise DataError(
            f"There is no {which} checkpoint in {runs_dir / name}: train first (python -m cli fit), or name a file "
            "with --ckpt_path FILE."
        )
    return path


def unused(path: Path) -> Path:
    """A path not in use yet: the one given, or with a number before its suffix."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate


def check_fits(checkpoint: Path, model: nn.Module) -> None:
    """Compares a checkpoint's weights with the model they shall be loaded into.

    Raises:
        DataError: the file is missing or no checkpoint, or is one of another architecture.
    """
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
    except FileNotFoundError:
        raise DataError(
            f"There is no checkpoint {checkpoint}: --ckpt_path takes last, a file, or outside of fit best."
        ) from None
    except (RuntimeError, OSError, EOFError, KeyError, ValueError, TypeError, pickle.UnpicklingError):
        raise DataError(
            f"{checkpoint} is no readable checkpoint: it is damaged, cut short or of another kind."
        ) from None
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    if differing := sorted(name for name in expected | found if expected.get(name) != found.get(name)):
        raise DataError(
            f"{checkpoint} is of another architecture than the config says ({len(differing)} of {len(expected)} "
            f"weights differ, first {differing[0]}): use the config.yaml of its run folder."
        )
