"""``python -m cli COMMAND``: trains, tests and applies Karyon's models."""

import sys

from datamodules.sample import DataError


def main() -> int:
    """Runs the command of `sys.argv`; returns its exit code."""
    try:
        if sys.argv[1:2] == ["results"]:
            from cli.results import results

            results(sys.argv[2:])
        elif sys.argv[1:2] == ["compare"]:
            from cli.compare import compare

            compare(sys.argv[2:])
        else:
            # Imported here: it takes seconds, and the other commands can do without.
            from cli.train import KaryonCLI

            KaryonCLI()
    except DataError as error:
        # A data loader's worker wraps the message into its traceback; the sentence is the last line.
        sentence = str(error).splitlines()[-1].removeprefix("datamodules.sample.DataError: ")
        print(f"error: {sentence}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
