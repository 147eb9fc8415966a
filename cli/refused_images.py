"""What ``predict`` says of files that could not be used."""

from torch import distributed

from cli.processes import is_first
from datamodules.prediction import PredictionLoader, Refused
from karyon.commands.console import Tally


def say_refused(loader: PredictionLoader) -> int:
    """Lists the files that could not be predicted, as `segment` does; returns the exit code, 1 if there are any."""
    refused = gathered(loader.refused)
    if refused and is_first():
        tally = Tally("predicted")
        tally.done = len(loader.dataset) - len(refused)  # type: ignore[arg-type]
        for path, reason in refused.items():
            tally.fail(path, reason)
        tally.summary()
    return 1 if refused else 0


def gathered(found: Refused) -> Refused:
    """What all processes have found."""
    if not distributed.is_initialized():
        return found
    of_each: list[Refused] = [{}] * distributed.get_world_size()
    distributed.all_gather_object(of_each, found)
    return {path: why for one in of_each for path, why in one.items()}
