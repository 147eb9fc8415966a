"""TensorBoard's logger of Lightning, of which no file replaces another."""

import time

from lightning.pytorch.loggers import TensorBoardLogger


class BoardLogger(TensorBoardLogger):
    """Writes the files of a training and of the test after it under names that always differ.

    Lightning closes the file at the end of each stage, and tensorboardX names the next one by the host and the second:
    a test that logs within the second in which the training began would empty the training's file.
    """

    def finalize(self, status: str) -> None:
        super().finalize(status)
        self._experiment = None
        self._kwargs["filename_suffix"] = f".{time.time_ns()}"
