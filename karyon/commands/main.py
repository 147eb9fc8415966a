"""Runs a command: its module is imported when it is asked for, and what goes wrong is said in one sentence."""

import importlib
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from karyon.commands.console import UNHEARD
from karyon.errors import DISK_FULL, DataError, cannot_write

OWN = ("karyon", "cli", "datamodules", "lightning_modules", "results")

Commands = Mapping[str, tuple[str, str]]
"""Of each command by its name: its module, which has a function of the command's name, and what it does in a line."""

COMMANDS: Commands = {
    "segment": ("karyon.commands.segment", "find the objects in images by a trained model"),
    "models": ("karyon.commands.models", "list the models that come with Karyon"),
    "convert": ("karyon.commands.convert", "bring annotated images from one tool's layout into another's"),
    "check": ("karyon.commands.check", "look at annotated images for what would spoil a training"),
}


def main() -> int:
    """Runs the command of `sys.argv`; returns its exit code."""
    return run(sys.argv[1:], COMMANDS, "karyon", "Find and outline nuclei in any microscope image.")


def run(
    args: Sequence[str],
    commands: Commands,
    prog: str,
    description: str,
    otherwise: Callable[[], int] | None = None,
) -> int:
    """Runs one of several commands.

    Args:
        args: of the command line, after the program's name.
        commands: that there are.
        prog: what the user has typed before.
        description: of the program.
        otherwise: runs a command that is listed without a module.

    Returns:
        the exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        # What a terminal or a file cannot show must not stop the work.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            return _run(args, commands, prog, description, otherwise)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # What is still to be said goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        with suppress(BrokenPipeError):
            print("Stopped, since nobody reads what it says any more.", file=sys.stderr)
        return UNHEARD


def _run(
    args: Sequence[str], commands: Commands, prog: str, description: str, otherwise: Callable[[], int] | None
) -> int:
    """As `run`, in which a pipe that is closed is met."""
    name = args[0] if args else "--help"
    if name in ("--help", "-h"):
        print(overview(commands, prog, description))
        return 0
    if name not in commands:
        print(f"error: There is no command {name}: choose one of {', '.join(commands)}.", file=sys.stderr)
        return 2
    try:
        module = commands[name][0]
        if not module and otherwise:
            return otherwise()
        code: int | None = getattr(importlib.import_module(module), name)(list(args[1:]), f"{prog} {name}")
        return code or 0
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in OWN:
            raise
        print(
            f"error: {name} needs the package {package}, which is not installed: begin the command with uv run --extra "
            'training, or install "karyon[training]".',
            file=sys.stderr,
        )
        return 2
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        refused = cannot_write(error.filename or "A file", error, "then go on with a training by --ckpt_path last")
        print(f"error: {refused}", file=sys.stderr)
        return 2


def overview(commands: Commands, prog: str, description: str) -> str:
    """All commands with a line each.

    >>> print(overview({"go": ("", "start"), "halt": ("", "stop")}, "x", "Does things."))
    usage: x COMMAND ...
    <BLANKLINE>
    Does things.
    <BLANKLINE>
      go    start
      halt  stop
    <BLANKLINE>
    x COMMAND --help says what each takes.
    """
    width = max(map(len, commands))
    lines = "\n".join(f"  {name:<{width}}  {line}" for name, (_, line) in commands.items())
    return f"usage: {prog} COMMAND ...\n\n{description}\n\n{lines}\n\n{prog} COMMAND --help says what each takes."
