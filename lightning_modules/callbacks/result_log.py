"""The table of results in every logger: a file in the run's folder, a table in W&B, text in TensorBoard."""

import csv
import io
from functools import singledispatch
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from karyon.io.whole_files import write_whole, writing_to
from lightning_modules.callbacks.result_table import result_rows


class ResultLog(Callback):
    """Hands the table that ends ``test`` and ``validate`` to every logger that the trainer has."""

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._hand_over(trainer, "test")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._hand_over(trainer, "val")

    def _hand_over(self, trainer: Trainer, stage: str) -> None:
        if trainer.is_global_zero:
            headings, rows = result_rows(trainer.callback_metrics, stage)
            # Rows of all images at once have one value.
            full = [[title, *values, *[None] * (len(headings) - len(values))] for title, values in rows]
            for logger in trainer.loggers:
                tabulate(logger, f"results-{stage}", ["metric", *headings], full)


@singledispatch
def tabulate(logger: Logger, name: str, header: list[str], rows: list[list[Any]]) -> None:
    """Hands a table to a logger; other loggers have none."""


@tabulate.register
def _(logger: CSVLogger, name: str, header: list[str], rows: list[list[Any]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    folder = Path(logger.log_dir)
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / f"{name}.csv", text.getvalue().encode())


@tabulate.register
def _(logger: TensorBoardLogger, name: str, header: list[str], rows: list[list[Any]]) -> None:
    cells = [["" if value is None else f"{value:.4f}" for value in values] for _, *values in rows]
    lines = [header, ["---"] * len(header), *([row[0], *values] for row, values in zip(rows, cells, strict=True))]
    logger.experiment.add_text(name, "\n".join(f"| {' | '.join(line)} |" for line in lines))


@tabulate.register
def _(logger: WandbLogger, name: str, header: list[str], rows: list[list[Any]]) -> None:
    logger.log_table(name, columns=header, data=rows)
