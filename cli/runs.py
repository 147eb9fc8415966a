"""Where runs lie: ``<runs_dir>/<name>/version_<n>/`` with its config, metrics and ``checkpoints/{best,last}.ckpt``.

Beside the versions there may be links of other names to them, such as that of a cluster's job.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name

from jsonargparse import Namespace

from karyon.checkpoint import run_folder, tuned_file
from karyon.errors import DataError


@dataclass(frozen=True)
class Trained:
    """What validate, tune, test and predict work with.

    Attributes:
        folder: of the run; what they write goes into subfolders.
        checkpoints: one, or those that a model without one of its own is made of.
        tuned: where the tuned parameters are kept.
    """

    folder: Path
    checkpoints: list[Path]
    tuned: Path


def numbered_versions(versions: Path) -> dict[int, Path]:
    """The versions of a run by their numbers.

    Args:
        versions: folder of the run.
    """
    names = ((re.fullmatch(r"version_(\d+)", folder.name), folder) for folder in versions.glob("version_*"))
    return {int(name[1]): folder for name, folder in names if name}


def named_version(versions: Path, name: str) -> Path | None:
    """The folder of a version, by its own name or by that of a link to it; None where there is none."""
    path = versions / name
    # By its own name, which is the one that records and results know.
    folder = versions / path.readlink() if path.is_symlink() else path
    return folder if folder.is_dir() else None


def in_versions(runs_dir: Path, name: str, file: str) -> list[Path]:
    """Where a file is found among the versions of a run, the newest version first.

    Args:
        runs_dir: folder of all runs.
        name: of the run.
        file: path inside a version's folder.
    """
    found = sorted(numbered_versions(runs_dir / name).items(), reverse=True)
    return [folder / file for _, folder in found if (folder / file).exists()]


def find_checkpoint(runs_dir: Path, name: str, which: str) -> Path | None:
    """The newest ``best`` or ``last`` checkpoint among the versions of a run.

    Args:
        runs_dir: folder of all runs.
        name: of the run.
        which: ``best`` or ``last``.
    """
    return next(iter(in_versions(runs_dir, name, f"checkpoints/{which}.ckpt")), None)


def resolve_trained(runs_dir: Path, name: str, ckpt_path: str | None, version: str | None = None) -> Path:
    """The checkpoint to validate, test or predict with.

    Args:
        runs_dir: folder of all runs.
        name: of the run.
        ckpt_path: a file, or ``best`` (the default) or ``last`` of the run.
        version: which of them, by its folder's name or a link's; the newest that has one where it is None.

    Raises:
        DataError: there is none.
    """
    which = ckpt_path or "best"
    if which not in ("best", "last"):
        return Path(which)
    if version is None:
        path = find_checkpoint(runs_dir, name, which)
    else:
        folder = named_version(runs_dir / name, version)
        path = folder / "checkpoints" / f"{which}.ckpt" if folder else None
    if path is None or not path.exists():
        raise DataError(
            f"There is no {which} checkpoint in {runs_dir / name / (version or '')}: train first (python -m cli fit), "
            "or name a file with --ckpt_path FILE."
        )
    return path


def trained_at(checkpoint: Path) -> Trained:
    """What a checkpoint of its own says of a model."""
    return Trained(run_folder(checkpoint), [checkpoint], tuned_file(checkpoint.parent, f"{checkpoint.stem}."))


def settle_trained(config: Namespace) -> Trained:
    """Settles which checkpoints are meant, and puts their files into the config.

    Args:
        config: of a command other than fit.

    Raises:
        DataError: there are none.
    """
    stages = checkpoint_arguments(config.model)
    if not stages:
        checkpoint = resolve_trained(config.runs_dir, config.name, config.ckpt_path, config.version)
        config.ckpt_path = str(checkpoint)
        return trained_at(checkpoint)
    if config.ckpt_path or config.version:
        raise DataError(
            f"This model has no checkpoint of its own: give {', '.join(stages)} and neither --ckpt_path nor --version."
        )
    init_args = config.model.init_args
    for stage in stages:
        init_args[stage] = resolve_stage(Path(init_args[stage]), stage)
    folder = config.runs_dir / config.name
    return Trained(folder, [init_args[stage] for stage in stages], tuned_file(folder))


def checkpoint_arguments(model: Namespace) -> tuple[str, ...]:
    """Arguments of a model that name the checkpoints it is made of; none for models that are trained themselves."""
    arguments: tuple[str, ...] = getattr(resolve_name(model.class_path), "checkpoint_arguments", ())
    return arguments


def resolve_stage(path: Path, argument: str) -> Path:
    """The checkpoint that a model is made of.

    Args:
        path: a file, or the folder of a version (or a link to it), or that of all versions, of which the newest is
            meant.
        argument: that names it, for errors.

    Raises:
        DataError: there is none.
    """
    found: Path | None = path
    if path.is_dir():
        version = named_version(path.parent, path.name) or path
        of_version = version / "checkpoints" / "best.ckpt"
        found = of_version if of_version.exists() else find_checkpoint(path.parent, path.name, "best")
    if found is None or not found.is_file():
        raise DataError(
            f"There is no checkpoint in {path}: train that stage first (python -m cli fit), or name a file as "
            f"model.init_args.{argument}."
        )
    return found


def unused(path: Path) -> Path:
    """A path not in use yet: the one given, or with a number before its suffix."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate
