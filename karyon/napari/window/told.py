"""Says in the window what cannot be done, in the sentence that the library says it in."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from napari.utils.notifications import show_error

from karyon.errors import DataError

P = ParamSpec("P")


def told(work: Callable[Concatenate[Any, P], None]) -> Callable[Concatenate[Any, P], None]:
    """Shows a `DataError` of some work of a part of the window in place of raising it."""

    @wraps(work)
    def tell(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            work(self, *args, **kwargs)
        except DataError as error:
            self.say(str(error))
            show_error(str(error))

    return tell
