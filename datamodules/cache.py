"""The label-image cache: a data set's images and label images, read once from their originals and then fast.

A cache is a folder ``<kind of content>-<fingerprint>/`` with ``<name>.webp`` (lossless), ``<name>.labels.png`` (16 bit;
``.labels.tif`` of 32 bit above 65,535 objects) and, written last, ``index.json``. It is built in a folder beside its
place and renamed into it, so that a cache that can be seen is whole.
"""

import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import tifffile
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from datamodules.locks import only_one
from karyon.checks.duplicates import duplicate_groups
from karyon.errors import DataError, cannot_write
from karyon.image_type import image_type, is_grey
from karyon.io.reading import Pixels, pixel_digest, read_cached
from karyon.labels import LabelImage
from karyon.layouts.protocol import Item

VERSION = 2
WEBP_LIMIT = 16383  # px a side


@dataclass(frozen=True)
class Record:
    """One image of a cache, as its index tells it.

    Attributes:
        name: identifier.
        height, width: px.
        channels: 1 for grey, 3 for RGB.
        image_type: image type.
        group: first name among the images of the same field of view.
        objects: number of annotated objects.
        image_sha256, labels_sha256: digests of the pixels (`karyon.io.reading.pixel_digest`); labels as int32.
    """

    name: str
    height: int
    width: int
    channels: int
    image_type: str
    group: str
    objects: int
    image_sha256: str
    labels_sha256: str


@dataclass(frozen=True)
class Cache:
    """A finished label-image cache."""

    folder: Path
    records: list[Record]

    def read_image(self, record: Record) -> Pixels:
        """(H, W) or (H, W, 3 RGB) uint8."""
        pixels = read_cached(self.folder / f"{record.name}.webp")
        return pixels[..., 0] if record.channels == 1 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)

    def read_labels(self, record: Record) -> LabelImage:
        """int32 (H, W)."""
        suffix = "png" if record.objects < 2**16 else "tif"
        return read_cached(self.folder / f"{record.name}.labels.{suffix}").astype(np.int32)


Reader = Callable[[], tuple[Pixels, LabelImage]]
"""Reads one image's original pixels and label image; called from several threads."""


def open_cache(folder: Path) -> Cache | None:
    """Opens a cache; None where there is none of this version."""
    try:
        index = json.loads((folder / "index.json").read_text())
    except (OSError, ValueError):
        return None
    return Cache(folder, [Record(**row) for row in index["records"]]) if index["version"] == VERSION else None


def build_cache(
    folder: Path, readers: dict[str, Reader], title: str, check: Callable[[Sequence[Record]], None] | None = None
) -> Cache:
    """Builds a cache, or opens the one that another process has built meanwhile.

    Args:
        folder: where it shall lie.
        readers: how to read each image.
        title: what the progress bar says.
        check: raises `DataError` for records that are not the expected ones; nothing is kept then.

    Returns:
        the finished cache.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.with_suffix(".lock").touch()
    except OSError as error:
        raise cannot_write(folder.parent, error, "or choose another cache_dir") from None
    with only_one(folder.with_suffix(".lock"), f"building the cache {folder}"):
        if cache := open_cache(folder):
            return cache
        # Left by a process that was killed: the lock says that nobody is at work in there.
        building = folder.with_suffix(".building")
        shutil.rmtree(building, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        building.mkdir()
        try:
            records = _write_all(building, readers, title)
            if check:
                check(records)
            index = {"version": VERSION, "records": [asdict(record) for record in records]}
            _write(building / "index.json", json.dumps(index, indent=1).encode())
            building.rename(folder)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
    return Cache(folder, records)


def _write_all(folder: Path, readers: dict[str, Reader], title: str) -> list[Record]:
    names = sorted(readers)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        with Progress(*columns) as progress:
            done = pool.map(lambda name: _write_one(folder, name, readers[name]), names)
            rows = list(progress.track(done, total=len(names), description=title))
    finally:
        # After an error or Ctrl-C the images still waiting are not read.
        pool.shutdown(cancel_futures=True)
    groups = duplicate_groups(names, [thumbnail for _, thumbnail in rows])
    return [Record(**{**asdict(record), "group": groups[record.name]}) for record, _ in rows]


def _write_one(folder: Path, name: str, reader: Reader) -> tuple[Record, np.ndarray]:
    pixels, labels = reader()
    if pixels.dtype != np.uint8:
        raise DataError(f"Image {name} has {pixels.dtype} pixels, not 8 bit: use FolderDataModule for such images.")
    if labels.min() < 0:
        raise DataError(
            f"Image {name} is not annotated throughout (-1), which no cache holds: use one without cache_dir."
        )
    grey = is_grey(pixels)
    # Three equal channels cost nothing in lossless WebP, which has no single-channel form.
    bgr = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR if pixels.ndim == 2 else cv2.COLOR_RGB2BGR)
    objects = int(labels.max())
    if max(bgr.shape) > WEBP_LIMIT:
        raise DataError(f"Image {name} is wider or higher than {WEBP_LIMIT} px: use FolderDataModule for such images.")
    # A quality above 100 asks OpenCV for the lossless form.
    _write(folder / f"{name}.webp", cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes())
    if objects < 2**16:
        _write(folder / f"{name}.labels.png", cv2.imencode(".png", labels.astype(np.uint16))[1].tobytes())
    else:
        tiff = io.BytesIO()
        tifffile.imwrite(tiff, labels.astype(np.uint32), compression="zlib")
        _write(folder / f"{name}.labels.tif", tiff.getvalue())
    kept = pixels[..., 0] if grey and pixels.ndim == 3 else pixels
    record = Record(
        name=name,
        height=pixels.shape[0],
        width=pixels.shape[1],
        channels=1 if grey else 3,
        image_type=image_type(pixels),
        group=name,
        objects=objects,
        image_sha256=pixel_digest(kept),
        labels_sha256=pixel_digest(labels.astype(np.int32)),
    )
    thumbnail = cv2.resize(bgr.mean(-1), (16, 16), interpolation=cv2.INTER_AREA)
    return record, thumbnail


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise cannot_write(path, error, "or choose another cache_dir") from None


def cached_item(cache: Cache, record: Record) -> Item:
    """An item that reads from a cache."""
    return Item(record.name, record.image_type, partial(_read_cached, cache, record))


def _read_cached(cache: Cache, record: Record) -> tuple[Pixels, LabelImage]:
    return cache.read_image(record), cache.read_labels(record)
