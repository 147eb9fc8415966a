"""Files below a folder, by name."""

import unicodedata
from pathlib import Path

from karyon.errors import DataError
from karyon.io.reading import IMAGE_SUFFIXES


def list_images(folder: Path) -> dict[str, Path]:
    """The image files below a folder.

    Returns:
        by name: the path below the folder, with ``/`` and without suffix.

    Raises:
        DataError: there is no such folder, no image in it, or two of one name.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}: name one that holds images.")
    files = list_files(folder, IMAGE_SUFFIXES)
    if not files:
        raise DataError(f"{folder} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}): put the images there.")
    return files


def list_files(folder: Path, suffixes: set[str], without: tuple[str, ...] = ()) -> dict[str, Path]:
    """The files below a folder that have one of some suffixes.

    Args:
        folder: where to look.
        suffixes: in lower case.
        without: files whose names end so, before the suffix, are left out.

    Returns:
        as `list_images`.

    Raises:
        DataError: there are two of one name.
    """
    files: dict[str, Path] = {}
    for name, paths in files_by_name(folder, suffixes).items():
        if name.endswith(without):
            continue
        if len(paths) > 1:
            raise DataError(f"{folder} holds two files named {name}, of different types: rename or remove one.")
        files[name] = paths[0]
    return files


def composed(name: str) -> str:
    r"""A name to compare with others: macOS writes accents as signs of their own, other systems do not.

    >>> composed("cafe\u0301") == "caf\u00e9"
    True
    """
    return unicodedata.normalize("NFC", name)


def files_by_name(folder: Path, suffixes: set[str]) -> dict[str, list[Path]]:
    """As `list_files`, with all files of each name."""
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        # Hidden files are what macOS and editors leave behind.
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file():
            files.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    return dict(sorted(files.items()))
