"""Says in one sentence what is wrong with a config."""

from collections.abc import Iterator
from contextlib import contextmanager

from karyon.errors import DataError


@contextmanager
def in_one_sentence() -> Iterator[None]:
    """Lets a class refuse its arguments in its own words: jsonargparse wraps its sentence into several others.

    Raises:
        DataError: it does.
    """
    try:
        yield
    except ValueError as error:
        cause: BaseException = error
        while isinstance(cause.__cause__, ValueError | DataError):
            cause = cause.__cause__
        raise DataError(str(cause)) from cause
