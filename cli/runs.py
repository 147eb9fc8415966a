"""Where runs lie: ``<runs_dir>/<name>/version_<n>/`` with its config, metrics and ``checkpoints/{best,last}.ckpt``."""

from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name

from jsonargparse import Namespace

from datamodules.sample import DataError
from lightning_modules.callbacks.run_record import run_folder


@dataclass(frozen=True)
class Trained:
    """What validate, tune, test and predict work with.

    Attributes:
        folder: of the run; what they write goes into subfolders.
        checkpoints: one, or those that a model without one of its own is made of.
        knobs: where the tuned knobs are kept.
    """

    folder: Path
    checkpoints: list[Path]
    knobs: Path


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


def trained_at(checkpoint: Path) -> Trained:
    """What a checkpoint of its own says of a model."""
    return Trained(run_folder(checkpoint), [checkpoint], checkpoint.with_suffix(".knobs.json"))


def settle_trained(config: Namespace) -> Trained:
    """Settles which checkpoints are meant, and puts their files into the config.

    Args:
        config: of a command other than fit.

    Raises:
        DataError: there are none.
    """
    stages = checkpoint_arguments(config.model)
    if not stages:
        checkpoint = resolve_trained(config.runs_dir, config.name, config.ckpt_path)
        config.ckpt_path = str(checkpoint)
        return trained_at(checkpoint)
    if config.ckpt_path:
        raise DataError(f"This model has no checkpoint of its own: give {', '.join(stages)} and no --ckpt_path.")
    init_args = config.model.init_args
    for stage in stages:
        init_args[stage] = resolve_stage(Path(init_args[stage]), stage)
    folder = config.runs_dir / config.name
    return Trained(folder, [init_args[stage] for stage in stages], folder / "knobs.json")


def checkpoint_arguments(model: Namespace) -> tuple[str, ...]:
    """Arguments of a model that name the checkpoints it is made of; none for models that are trained themselves."""
    arguments: tuple[str, ...] = getattr(resolve_name(model.class_path), "checkpoint_arguments", ())
    return arguments


def resolve_stage(path: Path, argument: str) -> Path:
    """The checkpoint that a model is made of.

    Args:
        path: a file, or the folder of all versions of a run, of which the newest version's best is taken.
        argument: that names it, for errors.

    Raises:
        DataError: there is none.
    """
    found = find_checkpoint(path.parent, path.name, "best") if path.is_dir() else path
    if found is None or not found.is_file():
        raise DataError(
            f"There is no checkpoint in {path}: train that stage first (python -m cli fit), or name a file with "
            f"--model.init_args.{argument} FILE."
        )
    return found


def unused(path: Path) -> Path:
    """A path not in use yet: the one given, or with a number before its suffix."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate
