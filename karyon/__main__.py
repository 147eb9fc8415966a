"""``python -m karyon``: the same as the script ``karyon``."""

import sys

from karyon.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
