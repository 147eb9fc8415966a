"""``python -m karyon`` and the script ``karyon``: from the first moment on, Ctrl-C ends them without a traceback."""

import sys
from importlib import import_module

INTERRUPTED = 130


def main(commands: str = "karyon.commands.main") -> int:
    """Runs the command of `sys.argv`; returns its exit code.

    Args:
        commands: the module whose ``main`` does so; to import it takes long enough to be interrupted.
    """
    try:
        code: int = import_module(commands).main()
        return code
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
