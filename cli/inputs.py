"""Which image files a command line means."""

import os
from collections.abc import Sequence
from pathlib import Path

from datamodules.reading import IMAGE_SUFFIXES
from datamodules.sample import DataError


def find_images(paths: Sequence[str], leave_out: Path) -> dict[str, Path]:
    """The image files that files, folders and patterns name.

    Args:
        paths: files of any suffix, folders, of which all image files below are taken, and patterns like ``a/*.tif``.
        leave_out: a folder that is not searched, because results lie there.

    Returns:
        files by name: the path below the folder that all of them share, with ``/`` and suffix; sorted.

    Raises:
        DataError: a path names no image.
    """
    found: set[Path] = set()
    bases: list[Path] = []
    for text in paths:
        path = Path(text)
        if path.is_dir():
            base, files = path.resolve(), _images_below(path.resolve(), "**/*", leave_out.resolve())
        elif path.exists():
            base = path.parent.resolve()
            files = [base / path.name]
        else:
            # A pattern that the shell has left to us: its folder ends where the first sign of one stands.
            fixed = next((k for k, part in enumerate(path.parts) if set(part) & set("*?[")), None)
            base = Path(*path.parts[:fixed]).resolve()
            files = (
                _images_below(base, str(Path(*path.parts[fixed:])), leave_out.resolve()) if fixed is not None else []
            )
        if not files:
            suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
            raise DataError(f"{text} names no image: expected a file, a folder or a pattern of images ({suffixes}).")
        bases.append(base)
        found.update(files)
    root = Path(os.path.commonpath(bases))
    return {path.relative_to(root).as_posix(): path for path in sorted(found)}


def _images_below(folder: Path, pattern: str, leave_out: Path) -> list[Path]:
    return [
        path
        for path in folder.glob(pattern)
        # Hidden files are what macOS and editors leave behind.
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not path.name.startswith(".")
        and leave_out not in path.parents
        and path.is_file()
    ]
