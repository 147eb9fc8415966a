"""Pictures of a training: what the model makes of the same few validation images, every few epochs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from numpy.typing import NDArray

from karyon.batch import Batch
from karyon.io.encoding import png
from karyon.io.file_names import file_stem
from karyon.io.reading import read_image
from karyon.io.whole_files import write_whole, writing_to
from karyon.labels import LabelImage
from karyon.metrics.matching import find_overlaps
from karyon.pictures.collage import column, panels_of, resized, row
from karyon.pictures.jet import touching
from karyon.pictures.overlay import captioned, display_image, side_by_side

PROGRESS = Path("samples", "progress.png")
TIMES, PANEL = 6, 256  # of each image in it; px, the width of a picture
LARGEST = 1024  # px; of larger images W&B gets every second, third ... pixel


@dataclass(frozen=True)
class Shown:
    """An image of the validation: its name, original pixels, true and predicted label image."""

    name: str
    source: NDArray[Any]
    true: LabelImage
    pred: LabelImage


class SamplePictures(Callback):
    """Shows some validation images and what was found in them, in every logger that the trainer has.

    In the run's folder as ``samples/<name>/epoch-<n>.png``, input, truth and result side by side, and
    ``samples/progress.png``, in which each image is a row: input, truth, then results from the first epoch to the last;
    in TensorBoard the pictures of each time; in W&B the image with masks to switch on and off, which tell the objects
    found from those missed, and the right ones from the wrong, at an IoU of .5. Every image type is shown once before a
    type is shown twice. With several processes the first chooses among its own images.

    Args:
        count: so many images; none at 0.
        every_n_epochs: after the first validation, the least number of epochs from one time to the next; the last epoch
            is shown too.
    """

    def __init__(self, count: int = 3, every_n_epochs: int = 5) -> None:
        self.count, self.every_n_epochs = count, every_n_epochs
        self.next_epoch = 0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        fitting = trainer.state.fn == "fit" and not trainer.sanity_checking
        last = trainer.current_epoch + 1 == trainer.max_epochs
        self.due = fitting and trainer.is_global_zero and (last or trainer.current_epoch >= self.next_epoch)
        self.first: dict[str, Shown] = {}
        self.further: list[Shown] = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not self.due:
            return
        for prediction, source, truth, image_type in zip(
            outputs, batch.sources, batch.truths, batch.image_types, strict=True
        ):
            assert source is not None and truth is not None, "outside training a batch carries originals and truths"
            shown = Shown(prediction.name, source, truth.numpy(), prediction.instances.labels)
            if self.first.setdefault(image_type, shown) is not shown and len(self.further) < self.count:
                self.further.append(shown)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.due:
            return
        chosen = [*self.first.values(), *self.further][: self.count]
        for logger in trainer.loggers:
            show(logger, chosen, trainer.current_epoch + 1, trainer.global_step)
        self.next_epoch = trainer.current_epoch + self.every_n_epochs
        self.first, self.further = {}, []

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Every process must ask for the folder: the first broadcasts it.
        progress = Path(trainer.log_dir or ".") / PROGRESS
        if trainer.is_global_zero and progress.exists():
            print(f"How the same validation images improved: {progress}", flush=True)


@singledispatch
def show(logger: Logger, samples: list[Shown], epoch: int, step: int) -> None:
    """Hands pictures to a logger, those of the first epoch being epoch 1; other loggers have none."""


@show.register
def _(logger: CSVLogger, samples: list[Shown], epoch: int, step: int) -> None:
    for sample in samples:
        folder = Path(logger.log_dir) / "samples" / file_stem(sample.name)
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / f"epoch-{epoch:04}.png", png(_beside(sample)))
    if samples:
        folders = [Path(logger.log_dir) / "samples" / file_stem(sample.name) for sample in samples]
        write_whole(Path(logger.log_dir) / PROGRESS, png(_progress(folders)))


def _progress(folders: Sequence[Path]) -> NDArray[np.uint8]:
    """A row for each image: input, truth, and results at a few of the times that its folder has pictures of."""
    rows = []
    for folder in folders:
        files = sorted(folder.glob("epoch-*.png"))
        chosen = [files[k] for k in np.unique(np.linspace(0, len(files) - 1, TIMES).round().astype(int))]
        results = [panels_of(read_image(file)) for file in chosen]
        named = [("input", results[-1][0]), ("truth", results[-1][1])]
        named += [(f"epoch {int(file.stem[6:])}", panels[-1]) for file, panels in zip(chosen, results, strict=True)]
        rows.append(row([captioned(resized(panel, PANEL), title) for title, panel in named]))
    # Pictures that came in later have fewer.
    width = max(picture.shape[1] for picture in rows)
    return column([np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0))) for picture in rows])


@show.register
def _(logger: TensorBoardLogger, samples: list[Shown], epoch: int, step: int) -> None:
    for sample in samples:
        logger.experiment.add_image(f"samples/{sample.name}", _beside(sample), step, dataformats="HWC")


@show.register
def _(logger: WandbLogger, samples: list[Shown], epoch: int, step: int) -> None:
    for sample in samples:
        every = np.s_[:: -(-max(sample.true.shape) // LARGEST)]
        true, pred = (mask[every, every] for mask in outcomes(sample.true, sample.pred))
        masks = {
            "result": {"mask_data": pred, "class_labels": {1: "right", 2: "wrong"}},
            "truth": {"mask_data": true, "class_labels": {1: "found", 2: "missed"}},
        }
        picture = display_image(sample.source[every, every])
        # Each under a key of its own: of several under one, W&B shows only those that have one size.
        logger.log_image(f"samples/{sample.name}", [picture], step, caption=[f"epoch {epoch}"], masks=[masks])


def outcomes(true: LabelImage, pred: LabelImage) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Tells the objects that match at an IoU above .5 from those that do not.

    Args:
        true: integers (H, W), 0 is background.
        pred: the same for the prediction.

    Returns:
        of true and predicted objects, uint8 (H, W): 1 where they match, 2 where not, 0 in the background and between
        objects that touch.

    >>> outcomes(np.array([[7, 7, 0, 0, 2]]), np.array([[1, 1, 0, 5, 0]]))
    (array([[1, 1, 0, 0, 2]], dtype=uint8), array([[1, 1, 0, 2, 0]], dtype=uint8))
    """
    true = np.maximum(true, 0)
    overlaps = find_overlaps(true, pred)
    match = 2 * overlaps.intersection > overlaps.union
    return _outcome(true, overlaps.true[match]), _outcome(pred, overlaps.pred[match])


def _outcome(labels: LabelImage, matched: NDArray[np.int64]) -> NDArray[np.uint8]:
    """1 for the objects of these numbers, as they appear in the image, and 2 for all others."""
    ids, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    first[ids == 0] = -1
    outcome = np.full(len(ids), 2, np.uint8)
    # Without the background, which comes before all others.
    outcome[np.argsort(first)[int(ids[0] == 0) :][matched]] = 1
    outcome[ids == 0] = 0
    mask = outcome[inverse].reshape(labels.shape)
    mask[touching(labels)] = 0
    return mask


def _beside(sample: Shown) -> NDArray[np.uint8]:
    return side_by_side(sample.source, sample.pred, sample.true)
