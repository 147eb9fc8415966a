"""Blocks of a large image that are done, in a folder: work that was killed goes on with those that are missing."""

import hashlib
import io
import shutil
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from karyon.inference.blocks import Block, Find, Found
from karyon.instances import Instances
from karyon.io.whole_files import write_whole

DAMAGED = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)  # as after a loss of power


@dataclass(frozen=True)
class BlockStore:
    """What was found in the blocks of an image, a compressed file each, which is there when it is whole.

    Attributes:
        folder: for this image alone.
        key: all that the objects depend on; what was found under another key is never taken.
    """

    folder: Path
    key: str

    def of(self, *more: object) -> "BlockStore":
        """The store of those blocks whose objects depend on this, too."""
        return replace(self, key=f"{self.key}; {more}")

    def once(self, find: Find, block: Block) -> Found:
        """What is found in a block, by an earlier run or now."""
        place = f"{block.core[0].start}-{block.core[1].start}.npz"
        path = self.folder / hashlib.sha256(self.key.encode()).hexdigest()[:16] / place
        with suppress(*DAMAGED):
            return _read(path)
        found = find(block)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, _packed(found))
        return found

    def clear(self) -> None:
        """Removes all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _packed(found: Found) -> bytes:
    certain, objects = found
    arrays = {"labels": objects.labels.astype(np.min_scalar_type(len(objects)))}
    arrays |= {"scores": objects.scores, "boxes": objects.boxes}
    if certain is not None:
        arrays["probability"] = certain
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _read(path: Path) -> Found:
    with np.load(path) as arrays:
        objects = Instances(arrays["labels"].astype(np.int32), arrays["scores"], arrays["boxes"])
        return arrays.get("probability"), objects
