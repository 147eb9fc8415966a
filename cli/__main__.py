"""``python -m cli COMMAND``: trains, tests and applies Karyon's models."""

import importlib
import sys

from datamodules.sample import DISK_FULL, DataError, cannot_write

# Imported when called: each takes seconds that the others can do without. All other commands are Lightning's.
COMMANDS = {
    "check": "cli.check",
    "compare": "cli.compare",
    "convert": "cli.convert",
    "export": "cli.export",
    "figure": "cli.figure",
    "report": "cli.report",
    "results": "cli.results",
    "segment": "cli.segment",
    "sweep": "cli.sweep",
}
TERMINATED = 128 + 15  # as shells say it


def main() -> int:
    """Runs the command of `sys.argv`; returns its exit code."""
    try:
        if (command := sys.argv[1] if len(sys.argv) > 1 else "") in COMMANDS:
            code = getattr(importlib.import_module(COMMANDS[command]), command)(sys.argv[2:])
            return code or 0
        from lightning.pytorch.utilities.exceptions import SIGTERMException

        from cli.processes import one_voice
        from cli.train import KaryonCLI

        try:
            with one_voice():
                KaryonCLI()
        except SIGTERMException:
            # A SystemExit that would end this with a code of 0, as if the training were done.
            return TERMINATED
    except DataError as error:
        # A data loader's worker wraps the message into its traceback; the sentence is the last line.
        sentence = str(error).splitlines()[-1].removeprefix("datamodules.sample.DataError: ")
        print(f"error: {sentence}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        refused = cannot_write(error.filename or "A file", error, "then go on with a training by --ckpt_path last")
        print(f"error: {refused}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
