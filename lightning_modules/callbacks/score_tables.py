"""What a test says of each image and of each object that it found, for whoever wants more than means."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from karyon.batch import Batch
from karyon.io.result_tables import write_rows
from karyon.io.whole_files import write_whole, writing_to
from karyon.metrics.matching import THRESHOLDS, image_score, match_instances

TP_COLUMNS = tuple(f"tp_{threshold:.2f}" for threshold in THRESHOLDS)
IMAGE_COLUMNS = ("image", "type", "height", "width", "objects_true", "objects_found", "dsb_score", *TP_COLUMNS)
OBJECT_COLUMNS = ("image", "id", "score", "iou")

Rows = dict[str, tuple[Sequence[Any], Sequence[Sequence[Any]]]]
"""Of each image, by name, its row and the rows of its objects, without the name."""


class ScoreTables(Callback):
    """Writes two tables beside the record of a test.

    * ``image_scores.csv``, a row an image: name, type, size (px), numbers of true and found objects, its DSB score, and
      the true positives at each IoU threshold, as `karyon.metrics.matching.Matching` counts them;
    * ``object_scores.csv``, a row a found object: its image, id and score, and its greatest IoU with a true object.

    Several processes send their rows to the first; an image that two were given is listed once.
    """

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.rows: Rows = {}

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        for prediction, truth, image_type in zip(outputs, batch.truths, batch.image_types, strict=True):
            assert truth is not None, "outside training a batch carries the truths"
            match = match_instances(truth, prediction.instances.labels)
            counts = match.n_true, match.n_pred, f"{image_score(match):.4f}", *match.tp.tolist()
            scored = zip(prediction.instances.scores.tolist(), match.best_ious, strict=True)
            objects = [(number, f"{score:.4f}", f"{iou:.4f}") for number, (score, iou) in enumerate(scored, start=1)]
            self.rows[prediction.name] = (image_type, *prediction.size, *counts), objects

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        rows = of_all_processes(self.rows)
        # Every process must ask for the folder: the first broadcasts it.
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        if trainer.is_global_zero:
            images = ((name, *row) for name, (row, _) in rows.items())
            objects = ((name, *row) for name, (_, found) in rows.items() for row in found)
            with writing_to(folder):
                folder.mkdir(parents=True, exist_ok=True)
                write_whole(folder / "image_scores.csv", _table(IMAGE_COLUMNS, images))
                write_whole(folder / "object_scores.csv", _table(OBJECT_COLUMNS, objects))


def of_all_processes(rows: Rows) -> Rows:
    """The rows of all processes, in each of them."""
    if not torch.distributed.is_initialized():
        return rows
    parts: list[Rows] = [{}] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, rows)
    return {name: row for part in parts for name, row in part.items()}


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    file = io.StringIO(newline="")
    write_rows(file, [columns, *rows])
    return file.getvalue().encode()
