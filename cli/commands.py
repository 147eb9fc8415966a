"""The commands of ``python -m cli``."""

import signal
import sys

from karyon.__main__ import INTERRUPTED
from karyon.commands.console import BY_SIGNAL
from karyon.commands.main import COMMANDS, run

TERMINATED = BY_SIGNAL + signal.SIGTERM

# Those without a module are LightningCLI's.
ALL = {
    "fit": ("", "train a model; a config names model and data"),
    "validate": ("", "score a trained model on the validation images"),
    "tune": ("", "find the parameters of post-processing that score best on the validation images"),
    "test": ("", "score a trained model on the test images"),
    "predict": ("", "find the objects in the images of a data module"),
    "bound": ("", "measure which stage of a two-stage model loses the score"),
    "segment": COMMANDS["segment"],
    "models": COMMANDS["models"],
    "convert": COMMANDS["convert"],
    "check": ("cli.check", "look at data, or at a config's data, for what would spoil a training"),
    "export": ("cli.export", "make a model bundle of a checkpoint, to keep, share and segment with"),
    "benchmark": ("cli.benchmark", "score models, beside a classical baseline, on annotated folders of any images"),
    "compare": ("cli.compare", "train several configs and draw their curves side by side"),
    "sweep": ("cli.sweep", "search hyper-parameters, on one machine or on a cluster"),
    "figure": ("cli.figure", "draw a figure of test images: input, truth and result"),
    "report": ("cli.report", "write a page about a test"),
    "results": ("cli.results", "write RESULTS.md from the records of measured runs"),
}
DESCRIPTION = (
    "Find and outline nuclei and membranes. Begin with: python -m cli fit --config configs/quickstart.yaml. Every "
    "option can stand in a YAML or on the command line; validate, test and predict take the newest run's best "
    "checkpoint."
)


def main() -> int:
    """Runs the command of `sys.argv`; returns its exit code."""
    return run(sys.argv[1:], ALL, "python -m cli", DESCRIPTION, train)


def train() -> int:
    """Runs one of LightningCLI's commands."""
    from karyon.inference.engines import allow_fallback

    # Before PyTorch is imported.
    allow_fallback()
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from cli.config_errors import fitting_parts
    from cli.processes import one_voice
    from cli.train import KaryonCLI

    try:
        with one_voice(), fitting_parts():
            return KaryonCLI().exit_code
    except SIGTERMException:
        # A SystemExit that would end this with a code of 0, as if the training were done.
        return TERMINATED
    except SystemExit as stop:
        # After Ctrl-C Lightning puts everything in order, heeds no second one, and ends with a code of 1.
        if isinstance(stop.__context__, KeyboardInterrupt):
            return INTERRUPTED
        raise
