"""What ``predict`` leaves behind: each image's result in several formats, and tables of the whole set."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from karyon.batch import Batch
from karyon.io.formats import DEFAULT, Format
from karyon.io.result_tables import drop_parts
from karyon.io.results_folder import ResultFolder
from karyon.io.whole_files import writing_to


class PredictionWriter(Callback):
    """Writes the predictions into the run's folder as they come; see `karyon.io.results_folder.ResultFolder`.

    Of several processes each writes its own images, and all but the first write their rows to ``<table>.part<rank>``;
    the first appends them to its own tables at the end.

    Args:
        formats: which to write; counts.csv is always written.
    """

    def __init__(self, formats: Sequence[Format] = DEFAULT) -> None:
        self.formats = formats
        self.results: ResultFolder | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.folder = Path(trainer.log_dir or trainer.default_root_dir)
        with writing_to(self.folder):
            if trainer.is_global_zero:
                # Left by a run that was interrupted.
                drop_parts(self.folder)
            trainer.strategy.barrier()
            part = "" if trainer.is_global_zero else f".part{trainer.global_rank}"
            self.results = ResultFolder(self.folder, self.formats, part=part)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert self.results is not None, "begun on_predict_start"
        with writing_to(self.folder):
            for prediction, source in zip(outputs, batch.sources, strict=True):
                assert source is not None, "outside training a batch carries the originals"
                self.results.write(prediction, source)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self.results is not None, "begun on_predict_start"
        with writing_to(self.folder):
            self.results.close()
            trainer.strategy.barrier()
            if trainer.is_global_zero:
                self.results.join()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        # What stopped the run says more than a failure to write the last rows.
        with suppress(OSError):
            if self.results is not None:
                self.results.close()
