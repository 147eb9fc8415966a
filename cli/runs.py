"""Where runs lie: ``<runs_dir>/<name>/version_<n>/`` with its config, metrics and ``checkpoints/{best,last}.ckpt``."""

import pickle
from pathlib import Path

import torch
from torch import nn

from datamodules.sample import DataError


def in_versions(runs_dir: Path, name: str, file: str) -> list[Path]:
    """Where a file is found among the versions of a run, the newest version first.

    Args:
        runs_dir: folder of all runs.
        name: of the run.
        file: path inside a version's folder.
    """
    found = {int(folder.name.removeprefix("version_")): folder / file for folder in (runs_dir / name).glob("version_*")}
    return [path for _, path in sorted(found.items(), reverse=True) if path.exists()]


def find_checkpoint(runs_dir: Path, name: str, which: str) -> Path | None:
    """The newest ``best`` or ``last`` checkpoint among the versions of a run.

    Args:
        runs_dir: folder of all runs.
        name: of the run.
        which: ``best`` or ``last``.
    """
    return next(iter(in_versions(runs_dir, name, f"checkpoints/{which}.ckpt")), None)


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
