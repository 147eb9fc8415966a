"""Options of the commands: what is not one is refused in one sentence."""

import argparse
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from karyon.errors import DataError


class OptionParser(argparse.ArgumentParser):
    """Parses a command line. Options are written out: a shortened one could mean another in the next release."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_args(self, args: Sequence[str], namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        """Parses all of the arguments.

        Raises:
            DataError: one of them is not understood.
        """
        options, left = self.parse_known_args(args)
        if left:
            name = next((arg.partition("=")[0] for arg in left if arg.startswith("-")), "")
            self.error(f"There is no option {name}{self._nearest(name)}" if name else f"{left[0]} is one too many")
        return options

    def error(self, message: str) -> NoReturn:
        raise DataError(f"{' '.join(message.split())}; see {self.prog} --help.")

    def _nearest(self, name: str) -> str:
        known = [option for option in self._option_string_actions if option.startswith("--")]
        near = [option for option in known if option.startswith(name)] or get_close_matches(name, known, 1)
        return f" (did you mean {' or '.join(near)}?)" if near and name.strip("-") else ""
