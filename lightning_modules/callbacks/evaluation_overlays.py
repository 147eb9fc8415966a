"""Pictures of a test: what the model saw, what is true, what it found, and the score of it."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from datamodules.sample import Batch
from lightning_modules.formats.files import png
from lightning_modules.formats.folder import file_stem, write_whole, writing_to
from lightning_modules.metrics import match_instances
from lightning_modules.metrics.per_image import ratio
from lightning_modules.overlay import side_by_side


class EvaluationOverlays(Callback):
    """Writes ``overlays/<score>-<name>.png`` for some images of ``test`` or ``validate``: input, truth, result.

    The score is the image's own DSB score, so that the files sort from the worst to the best. Every image type gets its
    share: the first images of each are kept, and a type that has more than another makes room for it. With several
    processes the first chooses among its own images.

    Args:
        count: at most so many images.
    """

    def __init__(self, count: int = 12) -> None:
        self.count = count

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._start(trainer)

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

    def _start(self, trainer: Trainer) -> None:
        # Every process must ask for the folder: the first broadcasts it.
        self.folder = Path(trainer.log_dir or trainer.default_root_dir) / "overlays"
        self.kept: defaultdict[str, list[Path]] = defaultdict(list)
        if trainer.is_global_zero:
            with writing_to(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                # An earlier test gave other scores, so its files would stay beside the new ones.
                for earlier in self.folder.glob("[01].[0-9][0-9][0-9]-*.png"):
                    earlier.unlink()

    def _add(self, outputs: Any, batch: Batch) -> None:
        for prediction, source, truth, kind in zip(outputs, batch.sources, batch.truths, batch.kinds, strict=True):
            assert source is not None and truth is not None, "outside training a batch carries originals and truths"
            with writing_to(self.folder):
                if not self._make_room(kind):
                    continue
                pred, true = prediction.instances.labels.numpy(), truth.numpy()
                matching = match_instances(true, pred)
                score = ratio(matching.tp, matching.tp + matching.fp + matching.fn).mean()
                path = self.folder / f"{score:.3f}-{file_stem(prediction.name)}.png"
                write_whole(path, png(side_by_side(source, pred, true)))
                self.kept[kind].append(path)

    def _make_room(self, kind: str) -> bool:
        """Whether one more image of a kind is kept; the most frequent kind gives its latest up where that is fairer."""
        if sum(map(len, self.kept.values())) < self.count:
            return True
        most = max(self.kept.values(), key=len, default=[])
        if len(most) <= len(self.kept[kind]) + 1:
            return False
        most.pop().unlink()
        return True
