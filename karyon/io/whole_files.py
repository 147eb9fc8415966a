"""Files that appear under their names only when they are whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from karyon.errors import cannot_write


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Makes a file appear under its name only when it is whole, and leaves nothing behind otherwise.

    Yields:
        the path to write to.
    """
    writing = path.with_name(f"{path.name}.writing")
    try:
        yield writing
        writing.replace(path)
    except OSError as error:
        # Where a disk is full, the system does not say which file it was.
        error.filename = error.filename or str(path)
        raise
    finally:
        writing.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes | Iterator[bytes]) -> None:
    """Writes a file, perhaps part by part, that appears under its name only when it is whole."""
    with whole(path) as writing, writing.open("wb") as file:
        file.writelines([data] if isinstance(data, bytes) else data)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Says in one sentence that something could not be written.

    Raises:
        DataError: the operating system refuses.
    """
    try:
        yield
    except BrokenPipeError:
        # Of the console, not of a disk.
        raise
    except OSError as error:
        raise cannot_write(error.filename or folder, error, "or choose another folder with --out") from None
