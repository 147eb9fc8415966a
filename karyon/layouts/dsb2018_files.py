"""DSB2018's layout, read alike from an archive and from an extracted folder."""

import hashlib
import threading
import zipfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from karyon.errors import DataError, first_line
from karyon.io.reading import Pixels, read_bytes, read_image
from karyon.io.room import check_bound
from karyon.labels import LabelImage

LARGEST = 2**28  # bytes of a file


class Source(Protocol):
    """Files under one roof; names are relative POSIX paths."""

    path: Path

    def sizes(self) -> dict[str, int]: ...

    def read(self, name: str) -> bytes: ...


class Folder:
    """A folder on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sizes(self) -> dict[str, int]:
        files = (file for file in self.path.rglob("*") if file.is_file())
        return {file.relative_to(self.path).as_posix(): file.stat().st_size for file in files}

    def read(self, name: str) -> bytes:
        return read_bytes(self.path / name)


class Archive:
    """A zip file, read in place: nothing is ever extracted, nor unpacked beyond the size of an image.

    Raises:
        DataError: it is not a zip file, or an entry's name climbs out of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        # Damaged archives raise anything.
        except Exception as error:
            raise DataError(f"{path} is not a readable zip archive ({first_line(error)}): download it again.") from None
        self._lock = threading.Lock()
        # Some programs of Windows part folders in names by the wrong sign.
        self._files = {info.filename.replace("\\", "/"): info for info in self._zip.infolist()}
        for name, info in self._files.items():
            inside = PurePosixPath(name)
            if (
                inside.is_absolute()
                or ".." in inside.parts
                or ":" in "".join(inside.parts[:1])
                or not name.isprintable()
            ):
                raise DataError(
                    f"{path} holds an entry that climbs out of the folder, or is none ({info.filename!r}): do not "
                    "trust it; get the archive from its public address."
                )

    def sizes(self) -> dict[str, int]:
        return {name: info.file_size for name, info in self._files.items() if not name.endswith("/")}

    def read(self, name: str) -> bytes:
        info = self._files[name]
        check_bound(f"{self.path}: {name}", info.file_size, LARGEST)
        try:
            with self._lock:
                return self._zip.read(info)
        # Damaged, encrypted, or of a compression that zipfile does not know: each raises something else.
        except Exception as error:
            raise DataError(
                f"{self.path}: {name} is damaged ({first_line(error)}); download the archive again."
            ) from None


def open_source(root: Path, name: str) -> Source | None:
    """Finds ``root/name/`` or ``root/name.zip``; the folder wins, as it may hold corrections. None where neither is."""
    if (root / name).is_dir():
        return Folder(root / name)
    archive = root / f"{name}.zip"
    return Archive(archive) if archive.is_file() else None


def listing_digest(source: Source) -> str:
    """A short fingerprint of a source's file names and sizes."""
    lines = "\n".join(f"{name}\t{size}" for name, size in sorted(source.sizes().items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:12]


@dataclass
class Entry:
    """One image of DSB2018's layout: ``<ImageId>/images/<ImageId>.png`` and ``<ImageId>/masks/*.png``."""

    name: str
    image: str = ""
    masks: list[str] = field(default_factory=list)


def scan_layout(source: Source) -> list[Entry]:
    """Lists the images of a source.

    Raises:
        DataError: the files do not form DSB2018's layout.
    """
    entries: dict[str, Entry] = defaultdict(lambda: Entry(""))
    for name in sorted(source.sizes()):
        path = PurePosixPath(name)
        if path.suffix.lower() != ".png" or "__MACOSX" in path.parts:
            continue
        if len(path.parts) < 3 or path.parts[-2] not in ("images", "masks"):
            raise DataError(
                f"{source.path} holds {name}, which is not DSB2018's layout: expected <ImageId>/images/<ImageId>.png "
                "and <ImageId>/masks/*.png; for plain image and label folders use FolderDataModule."
            )
        entry = entries[path.parts[-3]]
        entry.name = path.parts[-3]
        if path.parts[-2] == "masks":
            entry.masks.append(name)
        elif entry.image:
            raise DataError(f"{source.path}: {entry.name} has two images, {entry.image} and {name}; remove one.")
        else:
            entry.image = name
    missing = [entry.name for entry in entries.values() if not entry.image]
    if missing:
        raise DataError(f"{source.path}: {missing[0]} has masks but no image under images/; restore or remove it.")
    if not entries:
        raise DataError(f"{source.path} holds no image: expected <ImageId>/images/<ImageId>.png.")
    return list(entries.values())


def read_entry_image(source: Source, entry: Entry) -> Pixels:
    """The image of an entry, (H, W, 3) or (H, W)."""
    return read_image(source.read(entry.image), f"{source.path}/{entry.image}")


def read_entry_labels(source: Source, entry: Entry, size: tuple[int, int]) -> LabelImage:
    """Merges an entry's mask files into a label image; ids follow the sorted file names.

    Args:
        size: height and width of the image, px.

    Returns:
        int32 (H, W).

    Raises:
        DataError: there is no mask, one has another size than the image or no pixel, or two overlap.
    """
    where = f"{source.path}/{entry.name}"
    if not entry.masks:
        raise DataError(f"{where} has no masks: add masks/*.png, one nucleus a file, or remove the image.")
    labels = np.zeros(size, np.int32)
    for number, name in enumerate(entry.masks, start=1):
        pixels = read_image(source.read(name), f"{source.path}/{name}")
        mask = pixels.reshape(*pixels.shape[:2], -1).max(axis=2) > 0
        if mask.shape != size:
            raise DataError(
                f"{source.path}/{name} is {mask.shape[0]} x {mask.shape[1]} px, its image {size[0]} x {size[1]}: "
                "replace the mask."
            )
        if not mask.any():
            raise DataError(f"{source.path}/{name} is an empty mask: remove the file.")
        taken = labels[mask]
        if taken.any():
            other = entry.masks[int(taken.max()) - 1]
            raise DataError(
                f"{source.path}/{name} overlaps {PurePosixPath(other).name} in {np.count_nonzero(taken)} pixels: give "
                "each pixel to one nucleus."
            )
        labels[mask] = number
    return labels
