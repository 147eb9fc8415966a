"""The images of a folder as they lie there, whichever of the layouts it has: all that is found, whatever is wrong."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from datamodules.base import Item
from datamodules.checks import Finding, Severity, counted, named
from datamodules.dsb2018 import read_masks, read_solution
from datamodules.folder import LABEL_SUFFIXES, files_by_name, pair_item
from datamodules.reading import IMAGE_SUFFIXES, Pixels
from datamodules.sample import DataError
from datamodules.sources import Entry, Folder, SolutionTable, Source, open_source, read_entry_image, scan_layout

ARCHIVES = ("stage1_train", "stage1_test")

Parts = dict[str, list[Item]]


def find_originals(root: Path) -> tuple[Parts, list[Finding]]:
    """The images of a folder.

    Args:
        root: with ``images`` and ``labels``, as `datamodules.folder.FolderDataModule` takes it; or in the layout of
            `datamodules.dsb2018.DSB2018DataModule`, as a whole or one extracted archive of it.

    Returns:
        the images by part, and what is wrong with the files as such.

    Raises:
        DataError: the folder is missing, or in none of these layouts.
    """
    if not root.is_dir():
        raise DataError(f"There is no folder {root}: name one with images and labels, or a config with --config.")
    if (root / "images").is_dir():
        return _pairs(root)
    try:
        sources = {name: source for name in ARCHIVES if (source := open_source(root, name))}
    except DataError as error:
        return {}, [Finding("refused", "error", str(error))]
    if not sources and any(root.glob("*/images")):
        sources = {root.name: Folder(root)}
    if not sources:
        raise DataError(
            f"{root} is in no layout that can be checked as it lies: expected images/ and labels/, or the Data Science "
            "Bowl's stage1_train; for any other data set give a config of its data module with --config."
        )
    return _entries(root, sources)


def _pairs(root: Path) -> tuple[Parts, list[Finding]]:
    images = files_by_name(root / "images", IMAGE_SUFFIXES)
    if not images:
        raise DataError(
            f"{root / 'images'} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}): put the images there."
        )
    labels = files_by_name(root / "labels", LABEL_SUFFIXES)
    twice = [path for files in (images, labels) for paths in files.values() if len(paths) > 1 for path in paths]
    lacking = [paths[0] for name, paths in images.items() if name not in labels]
    unused = [paths[0] for name, paths in labels.items() if name not in images]
    missing = f"put it into {root / 'labels'} under the image's name, as TIFF or PNG, or remove the image."
    findings = [
        *_on_files("twice", "error", "file", twice, "of one name but different types", "keep one of each."),
        *_on_files("no-labels", "error", "image", lacking, "without a label image", missing),
        *_on_files("no-image", "hint", "label image", unused, "without an image", f"put it into {root / 'images'}."),
    ]
    items = [pair_item(name, paths[0], labels[name][0]) for name, paths in images.items() if name in labels]
    return {"images": items}, findings


def _on_files(kind: str, severity: Severity, noun: str, paths: Sequence[Path], what: str, advice: str) -> list[Finding]:
    names = [str(path) for path in paths]
    sentence = f"{counted(len(names), noun)} {what} ({named(names)}): {advice}"
    return [Finding(kind, severity, sentence, tuple(names))] if names else []


def _entries(root: Path, sources: dict[str, Source]) -> tuple[Parts, list[Finding]]:
    parts: Parts = {}
    findings = []
    for name, source in sources.items():
        try:
            entries = scan_layout(source)
            solution = root / f"{name.removesuffix('_test')}_solution.csv"
            table = SolutionTable(solution) if name.endswith("_test") and solution.exists() else None
        except DataError as error:
            findings.append(Finding("refused", "error", str(error)))
            continue
        parts[name] = [_entry_item(source, entry, table, name.endswith("_test")) for entry in entries]
    return parts, findings


def _entry_item(source: Source, entry: Entry, table: SolutionTable | None, test: bool) -> Item:
    if table:
        return Item(entry.name, "", partial(read_solution, source, entry, table))
    return Item(entry.name, "", partial(_read_image if test else read_masks, source, entry))


def _read_image(source: Source, entry: Entry) -> tuple[Pixels, None]:
    return read_entry_image(source, entry), None
