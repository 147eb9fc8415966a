"""What ``predict`` leaves behind: a label image and a picture of each image, and tables of the whole set."""

import csv
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
import tifffile
from lightning import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from skimage.measure import regionprops_table

from datamodules.sample import Batch, DataError, encode_objects
from lightning_modules.instances import Instances, Prediction
from lightning_modules.overlay import Picture, side_by_side

OBJECT_COLUMNS = (
    *("image", "id", "area", "centroid_x", "centroid_y", "x0", "y0", "x1", "y1"),
    *("eccentricity", "mean_intensity", "score"),
)
TABLES = {
    "objects.csv": OBJECT_COLUMNS,
    # As the Data Science Bowl wants it.
    "run_lengths.csv": ("ImageId", "EncodedPixels"),
    "counts.csv": ("image", "objects"),
}
LONGEST_FILE_NAME = 200  # bytes; file systems allow 255, and a score and a suffix are added


class PredictionWriter(Callback):
    """Writes the predictions into the run's folder as they come.

    For each image ``labels/<name>.tif``, the label image (16 bit; 32 bit above 65,535 objects), and
    ``overlays/<name>.png``, the input beside the result. For the whole set:

    * ``objects.csv``: a row an object: image, id, area (px), centroid (px; the first pixel's centre is 0), box (px,
      half-open), eccentricity of the ellipse with the same second moments, mean intensity of the original pixels over
      area and channels, and score;
    * ``counts.csv``: a row an image;
    * ``run_lengths.csv``: the competition's form, one row for an image without objects.

    An image's row in ``counts.csv`` is written last: where a run was interrupted, the images named there are complete.
    Of several processes each writes its own images, and all but the first write their rows to ``<table>.part<rank>``;
    the first appends them to its own tables at the end.
    """

    def __init__(self) -> None:
        self.open_files = ExitStack()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.folder = Path(trainer.log_dir or trainer.default_root_dir)
        self.tables: dict[str, TextIO] = {}
        with writing_to(self.folder):
            for kind in ("labels", "overlays"):
                (self.folder / kind).mkdir(parents=True, exist_ok=True)
            if trainer.is_global_zero:
                # Left by a run that was interrupted.
                for part in self.folder.glob("*.csv.part*"):
                    part.unlink()
            trainer.strategy.barrier()
            for table, columns in TABLES.items():
                path = self.folder / (table if trainer.is_global_zero else f"{table}.part{trainer.global_rank}")
                self.tables[table] = self.open_files.enter_context(path.open("w", newline="", encoding="utf-8"))
                self._add(table, [columns])

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
            for prediction, source in zip(outputs, batch.sources, strict=True):
                assert source is not None, "outside training a batch carries the originals"
                self._write(prediction, source)
            for file in self.tables.values():
                file.flush()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with writing_to(self.folder):
            self.open_files.close()
            trainer.strategy.barrier()
            if trainer.is_global_zero:
                merge_parts(self.folder)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        # What stopped the run says more than a failure to write the last rows.
        with suppress(OSError):
            self.open_files.close()

    def _write(self, prediction: Prediction, source: NDArray[Any]) -> None:
        labels = prediction.instances.labels.numpy()
        labels = labels.astype(np.uint16 if labels.max() < 2**16 else np.uint32)
        stem = file_stem(prediction.name)
        tifffile.imwrite(
            self.folder / "labels" / f"{stem}.tif", labels, compression="zlib", photometric="minisblack", metadata=None
        )
        write_png(self.folder / "overlays" / f"{stem}.png", side_by_side(source, labels))
        rows = list(object_rows(prediction.instances, source))
        self._add("objects.csv", ([prediction.name, *row] for row in rows))
        self._add("run_lengths.csv", ([prediction.name, code] for code in encode_objects(labels) or [""]))
        self._add("counts.csv", [(prediction.name, len(rows))])

    def _add(self, table: str, rows: Iterable[Iterable[Any]]) -> None:
        csv.writer(self.tables[table], lineterminator="\n").writerows(rows)


def object_rows(instances: Instances, source: NDArray[Any]) -> Iterator[tuple[Any, ...]]:
    """Describes each object.

    Args:
        instances: of one image.
        source: the image's original pixels, (H, W) or (H, W, C), any type.

    Yields:
        the entries of `OBJECT_COLUMNS` after the first.
    """
    labels = instances.labels.numpy()
    intensity = source.astype(np.float64) if source.ndim == 2 else source.mean(axis=-1, dtype=np.float64)
    properties = ("label", "area", "centroid", "bbox", "eccentricity", "intensity_mean")
    found = regionprops_table(labels, intensity, properties=properties)
    scores = instances.scores.numpy()[found["label"].astype(int) - 1]
    columns = [found[key].astype(int) for key in ("label", "area")]
    columns += [found[f"centroid-{axis}"].round(2) for axis in (1, 0)]
    columns += [found[f"bbox-{edge}"] for edge in (1, 0, 3, 2)]
    columns += [found["eccentricity"].round(4), [f"{mean:.6g}" for mean in found["intensity_mean"]], scores.round(4)]
    return zip(*columns, strict=True)


def merge_parts(folder: Path) -> None:
    """Appends the rows of the other processes to the tables of the first, and removes their files.

    An image that a sampler has given to several processes, to make their shares equal, is listed once.

    Args:
        folder: holds the tables, and a ``<table>.part<rank>`` of each other process.
    """
    # A single object's run lengths can be longer than the 131,072 characters that are allowed by default.
    csv.field_size_limit(sys.maxsize)
    listed = {row[0] for row in read_rows(folder / "counts.csv")}
    for counts in sorted(folder.glob("counts.csv.part*")):
        new = {row[0] for row in read_rows(counts)} - listed
        listed |= new
        for table in TABLES:
            part = folder / f"{table}{counts.suffix}"
            with (folder / table).open("a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows(row for row in read_rows(part) if row[0] in new)
            part.unlink()


def read_rows(path: Path) -> Iterator[list[str]]:
    """The rows of a table below its header."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        next(rows)
        yield from rows


def file_stem(name: str) -> str:
    """Turns an image's name into a file's, without its suffix; different names stay different.

    Characters that some file system gives a meaning to, and a leading dot, are written as ``%`` and their code, as in
    web addresses. Very long names are cut, and a digest of the whole name tells them apart.

    >>> file_stem("plate 1/well B3"), file_stem("../x")
    ('plate 1%2Fwell B3', '%2E.%2Fx')
    """
    stem = re.sub(r'^\.|[%/\\<>:"|?*\x00-\x1f\x7f]', lambda match: f"%{ord(match[0]):02X}", name)
    if len(stem.encode()) > LONGEST_FILE_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        stem = stem.encode()[: LONGEST_FILE_NAME - 17].decode(errors="ignore") + "~" + digest
    return stem


def write_png(path: Path, picture: Picture) -> None:
    """Writes an RGB picture."""
    path.write_bytes(cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes())


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Says in one sentence that something could not be written.

    Raises:
        DataError: the operating system refuses.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or folder} cannot be written ({error.strerror or error}): free space, or choose another "
            "folder with --out."
        ) from None
