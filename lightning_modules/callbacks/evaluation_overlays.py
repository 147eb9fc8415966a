"""Pictures of a test: what the model saw, what is true, what it found, and the score of it."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer

from karyon.batch import Batch
from karyon.io.encoding import png
from karyon.io.file_names import file_stem
from karyon.io.whole_files import write_whole, writing_to
from karyon.labels import LabelImage
from karyon.metrics.matching import image_score, match_instances
from karyon.pictures.overlay import side_by_side


@dataclass(frozen=True)
class Scored:
    """An image that was scored, and packed what was found in it, until it is known which images are drawn."""

    name: str
    image_type: str
    score: float
    size: tuple[int, int]
    packed: bytes

    def labels(self) -> LabelImage:
        """The predicted label image, int32 (H, W)."""
        return np.frombuffer(zlib.decompress(self.packed), np.int32).reshape(self.size)


class EvaluationOverlays(Callback):
    """Writes ``overlays/<score>-<name>.png`` for some images of ``test`` or ``validate``: input, truth, result.

    The score is the image's own DSB score, so that the files sort from the worst to the best. Which images these are is
    known at the end, when they are read again; see `choose`. With several processes the first chooses among its own.

    Args:
        count: at most so many images.
    """

    def __init__(self, count: int = 12) -> None:
        self.count = count

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.scored: list[Scored] = []

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.scored = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.is_global_zero:
            self._add(outputs, batch)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.state.fn == "validate" and trainer.is_global_zero:
            self._add(outputs, batch)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, trainer.test_dataloaders)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._write(trainer, trainer.val_dataloaders)

    def _add(self, outputs: Any, batch: Batch) -> None:
        for prediction, truth, image_type in zip(outputs, batch.truths, batch.image_types, strict=True):
            assert truth is not None, "outside training a batch carries the truths"
            pred = prediction.instances.labels
            score = image_score(match_instances(truth, pred))
            packed = zlib.compress(pred.astype(np.int32).tobytes(), level=1)
            self.scored.append(Scored(prediction.name, image_type, score, pred.shape, packed))

    def _write(self, trainer: Trainer, loader: Any) -> None:
        # Every process must ask for the folder: the first broadcasts it.
        folder = Path(trainer.log_dir or trainer.default_root_dir) / "overlays"
        if not trainer.is_global_zero:
            return
        # In the order in which this process was given them.
        indices = list(loader.sampler)
        chosen = choose(
            [scored.score for scored in self.scored], [scored.image_type for scored in self.scored], self.count
        )
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # An earlier test gave other scores, so its files would stay beside the new ones.
            for earlier in folder.glob("[01].[0-9][0-9][0-9]-*.png"):
                earlier.unlink()
            for k in chosen:
                sample, scored = loader.dataset[indices[k]], self.scored[k]
                picture = side_by_side(sample.source, scored.labels(), sample.truth.numpy())
                write_whole(folder / f"{scored.score:.3f}-{file_stem(scored.name)}.png", png(picture))


def choose(scores: Sequence[float], image_types: Sequence[str], count: int) -> list[int]:
    """Chooses images that show how a model does.

    Args:
        scores: of each image.
        image_types: image type of each.
        count: at most so many.

    Returns:
        indices of the image with the median score, and of an equal share of each type, spread evenly from its worst to
        its best image.

    >>> choose([0.1, 0.5, 0.9, 0.4, 0.3], ["a"] * 5, 3), choose([0.1, 0.9, 0.2, 0.5, 0.3], list("aaabb"), 4)
    ([3, 0, 2], [4, 0, 1, 3])
    """
    if not scores or not count:
        return []
    ranked = sorted(range(len(scores)), key=lambda k: scores[k])
    median = ranked[len(ranked) // 2]
    members = {
        image_type: [k for k in ranked if image_types[k] == image_type] for image_type in dict.fromkeys(image_types)
    }
    shares = dict.fromkeys(members, 0)
    # The median image is one of its type's.
    shares[image_types[median]] = 1
    for _ in range(min(count, len(ranked)) - 1):
        shares[
            min(
                (image_type for image_type in members if shares[image_type] < len(members[image_type])),
                key=shares.__getitem__,
            )
        ] += 1
    members[image_types[median]].remove(median)
    shares[image_types[median]] -= 1
    spread = {image_type: np.linspace(0, len(own) - 1, shares[image_type]) for image_type, own in members.items()}
    return [median, *(members[image_type][round(rank)] for image_type, ranks in spread.items() for rank in ranks)]
