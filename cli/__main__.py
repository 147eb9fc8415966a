"""``python -m cli COMMAND``: trains, tests and applies Karyon's models."""

import sys

from karyon import __main__ as start


def main() -> int:
    """Runs the command of `sys.argv`; returns its exit code."""
    return start.main("cli.commands")


if __name__ == "__main__":
    sys.exit(main())
