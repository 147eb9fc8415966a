"""A folder of results: files of each image, and tables of the whole set that grow with it."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from karyon.errors import DataError
from karyon.instances import Prediction
from karyon.io.encoding import coco, geojson_parts, label_tiff, overlay_png, png, probability_tiff, resolution, roi_zip
from karyon.io.file_names import file_stem, portable, without_suffix
from karyon.io.formats import DEFAULT, Format
from karyon.io.lazy_image import Image
from karyon.io.ome_zarr import write_label_zarr
from karyon.io.parquet import check_parquet, write_parquet
from karyon.io.result_tables import (
    TABLES,
    begin_table,
    complete_images,
    drop_parts,
    merge_parts,
    read_rows,
    write_rows,
)
from karyon.io.tables import object_rows, run_length_rows
from karyon.io.whole_files import whole, write_whole
from karyon.planes import PixelSize

FILES: dict[str, tuple[str, Callable[[Prediction, Image], bytes | Iterator[bytes]]]] = {
    "labels": (".tif", lambda prediction, source: label_tiff(prediction.instances.labels, prediction.pixel_size)),
    "overlays": (".png", overlay_png),
    "scores": (".png", partial(overlay_png, scores=True)),
    "jet": (".png", partial(overlay_png, filled=True)),
    "rois": (".zip", lambda prediction, source: roi_zip(prediction)),
    "geojson": (".geojson", lambda prediction, source: geojson_parts(prediction)),
    "coco": (".json", lambda prediction, source: coco(prediction)),
    "probability": (".tif", lambda prediction, source: probability_tiff(prediction.probability, prediction.pixel_size)),
    "membranes": (
        ".tif",
        lambda prediction, source: probability_tiff(_complement(prediction.probability), prediction.pixel_size),
    ),
}
UNFINISHED = "unfinished"  # the folder of what images that are not done have so far
STACKED = ("labels", "probability", "membranes")


@contextmanager
def _apart(path: Path) -> Iterator[None]:
    """Raises a `DataError` where a result would lie in place of the folder of others, or below a file."""
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise DataError(
            f"Its result {path} would lie where that of another image lies, whose name differs by .tif or the like: "
            "rename one of them."
        ) from None


class ResultFolder:
    """Keeps predictions in a folder as they come, in the formats asked for.

    For each image a file in a subfolder of the format's name:

    * ``labels/<name>.tif``, the label image (16 bit; 32 bit above 65,535 objects);
    * ``overlays/<name>.png``, the input beside the result, as outlines;
    * ``scores/<name>.png``, the same with each object's score in hundredths;
    * ``jet/<name>.png``, the input beside the objects filled in the jet colour map, as R1's figure has them;
    * ``rois/<name>.zip``, a set of selections for Fiji's ROI Manager;
    * ``geojson/<name>.geojson``, detections for QuPath;
    * ``coco/<name>.json``, annotations in COCO's form; those of all images together in ``coco.json`` at the end;
    * ``zarr/<name>.zarr``, the label image as a multiscale OME-Zarr (NGFF 0.5);
    * ``probability/<name>.tif``, that a pixel is inside an object, float32;
    * ``membranes/<name>.tif``, that it is not: of a model of cells, the membranes.

    For the whole set:

    * ``objects.csv``: a row an object: image, id, area (px), centroid (px; the first pixel's centre is 0), box (px,
      half-open), eccentricity of the ellipse with the same second moments, mean intensity of the original pixels over
      area and channels, score; area (um2), diameter of a disc of that area and centroid (um) where the size of a pixel
      is known;
    * ``run_lengths.csv``: the competition's form, one row for an image without objects;
    * ``objects.parquet``: ``objects.csv`` as Parquet, at the end;
    * ``counts.csv``: a row an image, in any case: the number of objects, the mean of their scores, and what is to be
      said of the image, such as that it was inverted, or that the model is in doubt.

    An image's row in ``counts.csv`` is written last, and files appear under their names when they are whole: where a
    run was interrupted, the images named there are complete.

    Args:
        folder: made where it is missing.
        formats: which to write.
        resume: whether to go on with the tables that are there, without the rows of images that are not complete.
        part: a suffix of the tables, ``.part<name>``, for each of several processes but the first.
        stem: turns an image's name into the path of its files, without suffix, below a format's folder.
        short: whether files and ``run_lengths.csv`` name images without their own suffix, see `without_suffix`.
    """

    def __init__(
        self,
        folder: Path,
        formats: Sequence[Format] = DEFAULT,
        resume: bool = False,
        part: str = "",
        stem: Callable[[str], str] = file_stem,
        short: bool = False,
    ) -> None:
        self.folder, self.formats, self.stem = folder, formats, stem
        self.shown: Callable[[str], str] = without_suffix if short else str
        self.complete: set[str] = set()
        self.open_files = ExitStack()
        self.tables: dict[str, TextIO] = {}
        if "parquet" in formats:
            check_parquet()
        for kind in (kind for kind in FILES if kind in formats):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        if resume:
            self.complete = complete_images(folder) | complete_images(folder, part)
        for table, columns in TABLES.items():
            if table in formats or table == "counts" or (table == "objects" and "parquet" in formats):
                path = folder / f"{table}.csv{part}"
                begin_table(path, columns, self.complete)
                self.tables[table] = self.open_files.enter_context(path.open("a", newline="", encoding="utf-8"))

    def write(self, prediction: Prediction, source: Image) -> None:
        """Keeps a prediction.

        Args:
            prediction: of one image.
            source: the image's original pixels, (H, W) or (H, W, 3 RGB), any type.
        """
        self.add(prediction, source, self.formats)
        found = prediction.instances
        confidence = f"{found.confidence:.3f}" if len(found) else ""
        self._add("counts", [(prediction.name, len(found), confidence, prediction.note)])
        self.complete.add(prediction.name)

    def add(self, prediction: Prediction, source: Image, formats: Sequence[Format]) -> None:
        """Writes some of the formats, of an image that has the others."""
        for kind, (_, encode) in FILES.items():
            if kind in formats:
                path = self.path(kind, prediction.name)
                with _apart(path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_whole(path, encode(prediction, source))
        if "zarr" in formats:
            path = self.folder / "zarr" / f"{self.stem(self.shown(prediction.name))}.zarr"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_label_zarr(path, prediction.instances.labels, prediction.pixel_size)
        if "objects" in formats or ("parquet" in formats and "objects" not in self.formats):
            self._add("objects", object_rows(prediction, source))
        if "run_lengths" in formats:
            self._add("run_lengths", run_length_rows(prediction, self.shown(prediction.name)))

    def picture(self, folder: str, name: str, picture: NDArray[Any]) -> None:
        """Writes a picture of an image, (H, W, 3 RGB), beside its results, as PNG into a folder of that name."""
        path = self.folder / folder / f"{self.stem(self.shown(name))}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, png(picture))

    def unfinished(self, name: str) -> Path:
        """Where what there is so far of an image lies, until it is done."""
        return self.folder / UNFINISHED / f"{self.stem(self.shown(name))}.blocks"

    def path(self, kind: str, name: str) -> Path:
        """Where the file of an image lies."""
        return self.folder / kind / f"{self.stem(self.shown(name))}{FILES[kind][0]}"

    def stack_pages(
        self, name: str, pages: Sequence[str], shape: tuple[int, ...], axes: str, pixel_size: PixelSize | None = None
    ) -> None:
        """Turns the label images, and probabilities, of a file's pages into one stack each of the file's shape.

        Args:
            name: of the file.
            pages: names of its images.
            shape: of the axes before height and width.
            axes: their names, such as ``TZ``.
            pixel_size: None where it is not known.
        """
        for kind in (kind for kind in STACKED if kind in self.formats):
            paths = [self.path(kind, page) for page in pages]
            # Otherwise done before.
            if all(path.exists() for path in paths):
                stack_tiffs(paths, self.path(kind, name), shape, axes, pixel_size)
                shutil.rmtree(paths[0].parent)

    def _add(self, table: str, rows: Iterable[Sequence[Any]]) -> None:
        write_rows(self.tables[table], rows)
        self.tables[table].flush()

    def close(self) -> None:
        """Closes the tables."""
        self.open_files.close()

    def join(self) -> None:
        """Brings together what the set is to have in one file, after the last process has closed its tables."""
        merge_parts(self.folder)
        if "parquet" in self.formats:
            write_parquet(self.folder / "objects.csv", self.folder / "objects.parquet")
        if "coco" in self.formats:
            names = [row[0] for row in read_rows(self.folder / "counts.csv")]
            join_coco([self.path("coco", name) for name in names], self.folder / "coco.json")


def open_results(
    folder: Path, formats: Sequence[Format], resume: bool, part: str = "", short: bool = False
) -> ResultFolder:
    """Opens the folder that one job or several write into, each with tables of its own.

    Results lie under the path of an image below its folder.

    Args:
        folder: of the results.
        formats: which to write.
        resume: whether the only job goes on with what lies there; one of several always does.
        part: see `ResultFolder`; "" for the only job, which also brings together what several have left.
        short: see `ResultFolder`.
    """
    if part:
        resume = True
    elif resume:
        merge_parts(folder)
    else:
        drop_parts(folder)
    return ResultFolder(folder, formats, resume, part, lambda name: "/".join(map(portable, name.split("/"))), short)


def _complement(probability: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    return None if probability is None else 1 - probability


def stack_tiffs(
    paths: Sequence[Path], path: Path, shape: tuple[int, ...], axes: str, pixel_size: PixelSize | None = None
) -> None:
    """Joins TIFFs of one size, read one by one, into one; see `ResultFolder.stack_pages`."""
    headers = []
    for single in paths:
        with tifffile.TiffFile(single) as file:
            headers.append((file.pages[0].shape, np.dtype(file.pages[0].dtype)))
    dtype = max((dtype for _, dtype in headers), key=lambda dtype: dtype.itemsize)
    planes = (tifffile.imread(single).astype(dtype) for single in paths)
    write_stack(planes, path, (*shape, *headers[0][0]), dtype, axes, pixel_size)


def write_stack(
    planes: Iterator[NDArray[Any]],
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    axes: str,
    pixel_size: PixelSize | None,
) -> None:
    """Writes planes of a type, one at a time, as a TIFF of a shape, of which ``axes`` names those before Y and X."""
    with whole(path) as stack:
        tifffile.imwrite(
            stack,
            planes,
            shape=shape,
            dtype=dtype,
            compression="zlib",
            photometric="minisblack",
            metadata={"axes": f"{axes}YX"},
            **resolution(pixel_size),
        )


def join_coco(paths: Iterable[Path], path: Path) -> None:
    """Joins COCO files of one image each into one; its annotations keep their object's id as ``label``."""
    joined: dict[str, list[dict[str, Any]]] = {"images": [], "categories": [], "annotations": []}
    for image_id, single in enumerate(paths, start=1):
        content = json.loads(single.read_bytes())
        joined["categories"] = content["categories"]
        joined["images"] += [image | {"id": image_id} for image in content["images"]]
        for annotation in content["annotations"]:
            number = len(joined["annotations"]) + 1
            joined["annotations"].append(annotation | {"id": number, "image_id": image_id})
    write_whole(path, json.dumps(joined, separators=(",", ":"), ensure_ascii=False).encode())
