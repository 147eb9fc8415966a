"""Which image files a command line means."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from karyon.errors import DataError
from karyon.io.ome_zarr import images_in
from karyon.io.other_formats import passed_over
from karyon.io.reading import IMAGE_SUFFIXES


def find_images(paths: Sequence[str], results: Path) -> tuple[Path, dict[str, Path], set[Path]]:
    """The image files that files, folders and patterns name.

    Args:
        paths: files of any suffix, folders, of which all image files below are taken, and patterns like ``a/*.tif``.
        results: a folder that is not searched, because results lie there.

    Returns:
        the folder that all paths share, and the files by name: their path below it, with ``/`` and suffix; sorted.
        Folders that may not be read and links that lead nowhere are among them, so that somebody will say so; so are
        the images of OME-Zarr, which are folders. And
        the files beside them that are passed over.

    Raises:
        DataError: a path names no image, or the folder of the results.
    """
    found: set[Path] = set()
    others: set[Path] = set()
    bases: list[Path] = []
    for text in paths:
        base, files = _find(Path(text), results.resolve())
        images = {path for path in files if (len(files) == 1 and path.name == Path(text).name) or _is_image(path)}
        if not images:
            suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
            expected = f"{text} names no image: expected a file, a folder or a pattern of images ({suffixes})."
            raise DataError(" ".join([expected, passed_over(files)]).strip())
        bases.append(base)
        found |= images
        others |= files - images
    root = Path(os.path.commonpath(bases))
    return root, {path.relative_to(root).as_posix(): path for path in sorted(found)}, others - found


def _find(path: Path, results: Path) -> tuple[Path, set[Path]]:
    """The folder that a path names or in which it begins, and its files."""
    try:
        is_folder, is_file = path.is_dir(), os.path.lexists(path)
    except PermissionError:
        # Whoever opens it will say so.
        is_folder, is_file = False, True
    if is_file and not is_folder:
        base = path.parent.resolve()
        return base, {base / path.name}
    # A pattern that the shell has left to us: its folder ends where the first sign of one stands.
    signs = None if is_folder else next((k for k, part in enumerate(path.parts) if set(part) & set("*?[")), None)
    base = Path(*path.parts[:signs]).resolve()
    if base == results:
        raise DataError(f"{path} is where the results are to go: choose another folder for them, with --out.")
    if is_folder:
        inside = images_in(base)
        return (base, set(_files_below(base, results))) if inside is None else (base.parent, set(inside))
    return base, set() if signs is None else set(_files_like(base, str(Path(*path.parts[signs:])), results))


def _files_like(base: Path, pattern: str, results: Path) -> Iterator[Path]:
    try:
        matches = list(base.glob(pattern))
    except ValueError:
        # Not every use of ** is a pattern.
        return
    for path in matches:
        if path.is_dir():
            yield from images_in(path) or _files_below(path, results)
        elif not path.name.startswith(".") and (results not in path.parents or results in base.parents):
            yield path


def _files_below(folder: Path, results: Path) -> Iterator[Path]:
    """Walks through a folder, and through the folders to which it links, each once."""
    waiting, seen = deque([folder]), {results}
    while waiting:
        here = waiting.popleft()
        if (real := here.resolve()) in seen:
            continue
        seen.add(real)
        try:
            entries = [(path, path.is_dir()) for path in here.iterdir()]
        except OSError:
            yield here
            continue
        for path, is_folder in entries:
            # Hidden files are what macOS and editors leave behind.
            if path.name.startswith("."):
                continue
            if not is_folder:
                yield path
            elif (inside := images_in(path)) is not None:
                yield from inside
            else:
                # Links last, so that a folder has the name under which it lies here.
                (waiting.append if path.is_symlink() else waiting.appendleft)(path)


def _is_image(path: Path) -> bool:
    """Whether it is named like one, or is a folder that may not be read."""
    return path.suffix.lower() in IMAGE_SUFFIXES or path.is_dir()
