"""Options of the commands: what is not one is refused in one sentence."""

import argparse
import os
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, NoReturn

from karyon.errors import DataError
from karyon.io.room import MAX_SIZE, amount


class OptionParser(argparse.ArgumentParser):
    """Parses a command line. Options are written out: a shortened one could mean another in the next release."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_args(self, args: Sequence[str], namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        """Parses all of the arguments.

        Raises:
            DataError: one of them is not understood.
        """
        if "" in args:
            self.error("One of the arguments is empty, which would mean the current folder")
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


class MaxSize(argparse.Action):
    """Raises how much a file may be unpacked to, for this process and those that it starts."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        os.environ[MAX_SIZE] = f"{values / 1e6}M"


def memory(text: str) -> float:
    """The bytes of an option such as ``4G``."""
    with suppress(ValueError):
        return amount(text)
    raise argparse.ArgumentTypeError(f"{text} is not an amount of memory: expected 4G, or 800M")


def add_max_size(parser: argparse.ArgumentParser) -> None:
    """Adds the option that raises the bound of what a file may be unpacked to."""
    parser.add_argument(
        "--max-size",
        action=MaxSize,
        type=memory,
        default=argparse.SUPPRESS,
        metavar="4G",
        help="that a file may be unpacked to, where that is more than is usual, or than is free in memory and on disk",
    )
