"""Where runs lie: ``<runs_dir>/<name>/version_<n>/`` with its config, metrics and ``checkpoints/{best,last}.ckpt``."""

from pathlib import Path

from datamodules.sample import DataError


def find_checkpoint(runs_dir: Path, name: str, which: str) -> Path | None:
    """The newest ``best`` or ``last`` checkpoint among the versions of a run.

    Args:
        runs_dir: folder of all runs.
        name: of the run.
        which: ``best`` or ``last``.
    """
    found = (runs_dir / name).glob(f"version_*/checkpoints/{which}.ckpt")
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def run_folder(checkpoint: Path) -> Path:
    """The folder of the run that wrote a checkpoint."""
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def resolve_trained(runs_dir: Path, name: str, ckpt_path: str | None) -> Path:
    """The checkpoint to validate, test or predict with: a path, or ``best`` (the default) or ``last`` of the run.

    Raises:
        DataError: there is none.
    """
    which = ckpt_path or "best"
    path = find_checkpoint(runs_dir, name, which) if which in ("best", "last") else Path(which)
    if path is None:
        raise DataError(
            f"There is no {which} checkpoint in {runs_dir / name}: train first (python -m cli fit), or name a file with "
            "--ckpt_path FILE."
        )
    if not path.is_file():
        raise DataError(f"There is no checkpoint {path}: give --ckpt_path best, last or an existing file.")
    return path


def unused(path: Path) -> Path:
    """A path not in use yet: the one given, or with a number before its suffix."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate
