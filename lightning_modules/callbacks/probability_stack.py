"""What a segmentation challenge wants of ``predict``: the probability maps of all sections as one TIFF stack."""

from pathlib import Path
from typing import Any

import tifffile
from lightning import Callback, LightningModule, Trainer

from karyon.batch import Batch
from karyon.errors import DataError
from karyon.io.file_names import file_stem
from karyon.io.whole_files import writing_to


class ProbabilityStack(Callback):
    """Writes ``probability/<name>.tif`` for each image and, at the end, all of them in order as ``probability.tif``.

    The values are float32 in [0, 1], 1 for certainly inside a cell and 0 for certainly membrane, which is what ISBI
    2012 asks its submissions for. With several processes each writes its own images; the first puts them together.

    Source: https://imagej.net/events/isbi-2012-segmentation-challenge ("32-bit TIFF 3D image, which values between 0
    (100% membrane certainty) and 1 (100% non-membrane certainty)")
    """

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.folder = Path(trainer.log_dir or trainer.default_root_dir)
        with writing_to(self.folder):
            (self.folder / "probability").mkdir(parents=True, exist_ok=True)
            if trainer.is_global_zero:
                # Left by an earlier prediction of other images.
                for earlier in (self.folder / "probability").glob("*.tif"):
                    earlier.unlink()
            trainer.strategy.barrier()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        with writing_to(self.folder):
            for prediction in outputs:
                if prediction.probability is None:
                    raise DataError(
                        f"{type(pl_module).__name__} gives no probability map: leave ProbabilityStack out of "
                        "trainer.callbacks."
                    )
                path = self.folder / "probability" / f"{file_stem(prediction.name)}.tif"
                tifffile.imwrite(path, prediction.probability, photometric="minisblack", metadata=None)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            with writing_to(self.folder):
                stack_probabilities(self.folder / "probability", self.folder / "probability.tif")


def stack_probabilities(folder: Path, path: Path) -> None:
    """Puts the sections of a folder together, sorted by name, one in memory at a time.

    Images of several sizes make no stack: it is left out.

    Args:
        folder: holds float32 TIFF files (H, W).
        path: the stack to write, (N, H, W).
    """
    sections = sorted(folder.glob("*.tif"))
    shapes = {_shape(section) for section in sections}
    if len(shapes) != 1:
        print(f"The images have {len(shapes)} sizes, so their probabilities are not put together into one stack.")
        return
    temporary = path.with_suffix(".part")
    with tifffile.TiffWriter(temporary) as writer:
        for section in sections:
            writer.write(tifffile.imread(section), photometric="minisblack", contiguous=True, metadata={"axes": "ZYX"})
    # Renamed when it is whole: a broken run leaves no half submission.
    temporary.replace(path)


def _shape(path: Path) -> tuple[int, ...]:
    with tifffile.TiffFile(path) as file:
        return file.pages[0].shape
