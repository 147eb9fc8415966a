"""ISBI 2012: membranes in serial-section electron microscopy of a fly larva's ventral nerve cord."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray
from skimage.measure import label as connected_components

from datamodules.base import LabelImageDataModule
from datamodules.download import download
from datamodules.splits import Member, read_manifest, write_manifest
from karyon.errors import DataError
from karyon.io.reading import Pixels, pixel_digest, read_stack, read_table
from karyon.labels import LabelImage
from karyon.layouts.dsb2018_files import Archive, Folder, Source
from karyon.layouts.protocol import Item

ADDRESS = "https://downloads.imagej.net/"
ARCHIVE = "ISBI-2012-challenge.zip"
MANIFEST = Path(str(files("datamodules") / "manifests" / "isbi2012.csv"))


class ISBI2012DataModule(LabelImageDataModule):
    """The ISBI 2012 segmentation challenge: cells are the objects, membrane is 0.

    Under ``root``, as files or inside ``ISBI-2012-challenge.zip``::

        train-volume.tif    30 sections of 512 x 512 px, 8 bit
        train-labels.tif    255 inside a cell, 0 on a membrane
        test-volume.tif     the challenge's 30 test sections, which `predict` takes
        test-labels.tif     their annotation, where it is at hand

    A cell is a 4-connected component of an annotated section's white pixels. Neighbouring sections look alike, so what
    is held out is a contiguous block: of ``blocks`` blocks of training sections, number ``fold`` is tested on, the one
    before it (before the first: the last) is validated on, and the others are trained on. Where ``test-labels.tif`` is
    at hand, ``test`` takes the challenge's test sections in place of the held-out block.

    Citation: Arganda-Carreras et al. 2015, "Crowdsourcing the creation of image segmentation algorithms for
    connectomics", Frontiers in Neuroanatomy 9; data: Cardona et al. 2010, PLoS Biology 8. Address:
    https://imagej.net/events/isbi-2012-segmentation-challenge

    Args:
        root: folder with the stacks or the archive.
        cache_dir: where the split manifests are kept.
        download: whether to fetch the archive (about 15 MB) from the public address where the stacks are missing.
        manifest: table of every section's content (SHA-256 of its pixels) that the data must match; null to use stacks
            of your own. The test annotation's content is not pinned.
        blocks: number of contiguous blocks that the training sections are cut into.
        fold: which block is tested on, from 0.
        address: where `download` finds the archive.
        kwargs: see `datamodules.base.LabelImageDataModule`; one channel by default.

    Raises:
        ValueError: there are fewer than 3 blocks, or no block has that number.
    """

    def __init__(
        self,
        root: Path = Path("data/isbi2012"),
        cache_dir: Path = Path("data/cache"),
        download: bool = False,
        manifest: Path | None = MANIFEST,
        blocks: int = 6,
        fold: int = 5,
        address: str = ADDRESS,
        channels: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(channels=channels, **kwargs)
        if blocks < 3 or not 0 <= fold < blocks:
            raise ValueError(
                f"fold is {fold} of {blocks} blocks: expected 3 blocks or more, and a fold from 0 to blocks - 1."
            )
        self.root = Path(root)
        self.cache_dir = Path(cache_dir)
        self.download = download
        self.expected = read_section_manifest(Path(manifest)) if manifest else {}
        self.blocks = blocks
        self.fold = fold
        self.address = address

    def prepare_data(self) -> None:
        if self.download and find_stack(self.root, "train-volume.tif") is None:
            download(self.address, [ARCHIVE], self.root)

    def setup(self, stage: str) -> None:
        if stage == "predict":
            self.items["predict"] = self._items("test-volume", None)
        elif stage == "test" and find_stack(self.root, "test-labels.tif"):
            say(f"Testing on the challenge's test sections: {self.root} holds test-labels.tif.")
            self.items["test"] = self._items("test-volume", "test-labels")
        else:
            items = {item.name: item for item in self._items("train-volume", "train-labels")}
            for part, names in self._split(items).items():
                self.items[part] = [items[name] for name in names]

    def _items(self, volume: str, labels: str | None) -> list[Item]:
        images = self._stack(volume)
        annotation = None if labels is None else self._stack(labels)
        if annotation is not None and annotation.shape != images.shape:
            raise DataError(
                f"{self.root}: {labels}.tif has the shape {annotation.shape} and {volume}.tif {images.shape}: they "
                "must be equal; get both from one source."
            )
        cells = [None] * len(images) if annotation is None else [find_cells(section) for section in annotation]
        return [
            Item(name, "", partial(_read, section, cell))
            for name, section, cell in zip(section_names(volume, len(images)), images, cells, strict=True)
        ]

    def _stack(self, stack: str) -> Pixels:
        found = find_stack(self.root, f"{stack}.tif")
        if found is None:
            raise DataError(
                f"There is no {stack}.tif in {self.root}, nor in an {ARCHIVE} there: point to the ISBI 2012 stacks "
                "with --data.init_args.root FOLDER, or have them downloaded (15 MB) with --data.init_args.download "
                "true."
            )
        pixels = read_stack(found.source.read(found.name), str(found.source.path / found.name))
        check_sections(pixels, self.expected.get(stack, {}), found.source.path / found.name)
        if stack.endswith("-labels"):
            check_two_values(pixels, found.source.path / found.name)
        return pixels

    def _split(self, items: Mapping[str, Item]) -> dict[str, list[str]]:
        members = [Member(name, pixel_digest(item.read()[0]), "", name) for name, item in items.items()]
        parts = hold_out(list(items), self.blocks, self.fold)
        content = pixel_digest(np.array([member.digest for member in members], dtype="S64").view(np.uint8))[:12]
        name = f"isbi2012-{content}-blocks{self.blocks}-fold{self.fold}.json"
        path = self.cache_dir / "splits" / name
        if path.exists():
            return read_manifest(path, members)
        write_manifest(path, members, parts, {"blocks": self.blocks, "fold": self.fold})
        return parts


say = rank_zero_only(print)


def hold_out(names: list[str], blocks: int, fold: int) -> dict[str, list[str]]:
    """Cuts a sequence into contiguous blocks; one is tested on, the one before it validated on.

    Args:
        names: in the order of the sections.
        blocks: number of blocks; where they cannot be equal, the first ones are longer by one.
        fold: number of the test block.

    Returns:
        the names of ``train``, ``val`` and ``test``, in order.

    Raises:
        DataError: there are fewer sections than blocks.

    >>> hold_out(["a", "b", "c", "d", "e"], blocks=3, fold=0)
    {'train': ['c', 'd'], 'val': ['e'], 'test': ['a', 'b']}
    """
    if len(names) < blocks:
        raise DataError(f"The stack has {len(names)} sections, too few for {blocks} blocks: choose fewer blocks.")
    cut = [[str(name) for name in block] for block in np.array_split(names, blocks)]
    validated = (fold - 1) % blocks
    train = [name for number, block in enumerate(cut) if number not in (fold, validated) for name in block]
    return {"train": train, "val": cut[validated], "test": cut[fold]}


@dataclass(frozen=True)
class Found:
    """A stack's file: its name within a folder or an archive."""

    source: Source
    name: str


def find_stack(root: Path, name: str) -> Found | None:
    """Finds a stack in the folder itself, or anywhere in the challenge's archive there."""
    if (root / name).is_file():
        return Found(Folder(root), name)
    if (root / ARCHIVE).is_file():
        archive = Archive(root / ARCHIVE)
        for inside in sorted(archive.sizes()):
            # macOS leaves a hidden twin of each file in the archives it makes.
            if PurePosixPath(inside).name == name and "__MACOSX" not in inside:
                return Found(archive, inside)
    return None


def section_names(stack: str, count: int) -> list[str]:
    """What the sections of a stack are called.

    >>> section_names("train-volume", 2)
    ['train-volume-00', 'train-volume-01']
    """
    return [f"{stack}-{number:02d}" for number in range(count)]


def find_cells(annotation: NDArray[Any]) -> LabelImage:
    """The 4-connected components of an annotated section's white pixels.

    Args:
        annotation: (H, W), 0 on a membrane.

    Returns:
        int32 (H, W), 0 membrane, 1..N the cells.

    >>> find_cells(np.array([[255, 0], [0, 255]]))
    array([[1, 0],
           [0, 2]], dtype=int32)
    """
    return np.asarray(connected_components(annotation > 0, connectivity=1), np.int32)


def read_section_manifest(path: Path) -> dict[str, dict[int, str]]:
    """Reads a content manifest.

    Returns:
        for each stack the SHA-256 of its sections' pixels, by number.

    Raises:
        DataError: the file cannot be read, or is not such a table.
    """
    expected: dict[str, dict[int, str]] = {}
    try:
        for row in read_table(path):
            expected.setdefault(row["stack"], {})[int(row["section"])] = row["sha256"]
    except (DataError, KeyError, ValueError, csv.Error):
        expected = {}
    if not expected or any(sorted(sections) != list(range(len(sections))) for sections in expected.values()):
        raise DataError(
            f"{path} is not a readable content manifest: give null, or the table that came with the project."
        )
    return expected


def check_sections(stack: Pixels, expected: Mapping[int, str], path: Path) -> None:
    """Compares a stack with the manifest; one that the manifest does not list passes.

    Raises:
        DataError: the number of sections or a section's pixels differ.
    """
    remedy = "download the archive again, or pass manifest: null to use stacks of your own"
    if expected and len(stack) != len(expected):
        raise DataError(f"{path} has {len(stack)} sections where {len(expected)} were published: {remedy}.")
    for number, digest in expected.items():
        if pixel_digest(stack[number]) != digest:
            raise DataError(f"{path}: the pixels of section {number} differ from the published ones; {remedy}.")


def check_two_values(labels: Pixels, path: Path) -> None:
    """Makes sure that an annotation tells cells from membrane and nothing else.

    Raises:
        DataError: it has values other than 0 and one more, or misses one of the two.
    """
    values = np.unique(labels)
    if len(values) != 2 or values[0] != 0:
        shown = ", ".join(map(str, values[:4]))
        raise DataError(
            f"{path} has the values {shown}{', ...' if len(values) > 4 else ''}: expected 0 on membranes and one other "
            "value inside cells."
        )


def _read(section: Pixels, cells: LabelImage | None) -> tuple[Pixels, LabelImage | None]:
    return section, cells
