"""What to raise where input or a disk cannot be used, and how to say it in one sentence."""

import errno
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DataError(Exception):
    r"""Input that cannot be used. The message is one sentence: the file, what is wrong, what to do.

    >>> str(DataError("a\x1b[31m\nb.png is empty."))
    'a\\x1b[31m\\nb.png is empty.'
    """

    def __init__(self, sentence: str = "") -> None:
        # A data loader's worker wraps it into its traceback, of which it is the last line.
        if sentence.startswith("Caught DataError"):
            sentence = sentence.splitlines()[-1].removeprefix(f"{DataError.__module__}.DataError: ")
        super().__init__(printable(sentence))


def printable(text: str) -> str:
    r"""A text in one line, without what would steer a terminal, such as in names of files.

    >>> printable("a\x1b[2Jb\n"), printable("µm für Zellen")
    ('a\\x1b[2Jb\\n', 'µm für Zellen')
    """
    return "".join(
        sign.encode("unicode_escape").decode() if unicodedata.category(sign)[0] == "C" else sign for sign in text
    )


def first_line(error: Exception) -> str:
    r"""What a library says of damaged input, short enough to stand within a sentence of ours.

    >>> first_line(ValueError("no \x1bimage\nat all")), first_line(ValueError())
    ('no \\x1bimage', 'ValueError')
    """
    return printable(next(iter(str(error).splitlines()), "")[:200] or type(error).__name__)


def cannot_write(path: Path | str, error: OSError, then: str) -> DataError:
    """What to raise where the operating system refuses to write.

    Args:
        path: what was to be written.
        error: what it says.
        then: what to do once there is space, or leave to write; or what to do instead.

    >>> print(cannot_write("a.csv", OSError(errno.ENOSPC, "Disk full"), "or choose another folder with --out"))
    a.csv cannot be written (Disk full): free space, or choose another folder with --out.
    """
    remedy = "see that nothing is in its way and that you may write there"
    if error.errno in DISK_FULL:
        remedy = "free space"
    return DataError(f"{path} cannot be written ({error.strerror or error}): {remedy}, {then}.")


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Puts the name of an image before what is said of it."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
