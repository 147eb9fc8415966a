"""The images of a folder as they lie there, whichever of the layouts it has: all that is found, whatever is wrong."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from karyon.checks.findings import Finding, Severity
from karyon.commands.console import counted, named
from karyon.errors import DataError
from karyon.io.reading import IMAGE_SUFFIXES, Pixels, read_image, read_labels
from karyon.labels import LabelImage
from karyon.layouts.all_layouts import find_layout, matching_layouts
from karyon.layouts.dsb2018_annotation import SolutionTable, read_masks, read_solution
from karyon.layouts.dsb2018_files import Entry, Folder, Source, open_source, read_entry_image, scan_layout
from karyon.layouts.files import composed, files_by_name
from karyon.layouts.label_folders import LABEL_SUFFIXES
from karyon.layouts.protocol import Item, Layout

ARCHIVES = ("stage1_train", "stage1_test")
# Those of other tools, which their own readers know.
OTHERS = {"stardist", "cellpose", "coco", "qupath", "aperio"}

Parts = dict[str, list[Item]]


def find_originals(root: Path) -> tuple[Parts, list[Finding]]:
    """The images of a folder.

    Args:
        root: in any layout that `datamodules.folder.FolderDataModule` takes; or in that of
            `datamodules.dsb2018.DSB2018DataModule`, as a whole or one extracted archive of it.

    Returns:
        the images by part, and what is wrong with the files as such.

    Raises:
        DataError: the folder is missing, or in none of these layouts.
    """
    if not root.is_dir():
        raise DataError(f"There is no folder {root}: name one with images and labels.")
    if OTHERS & matching_layouts(root).keys():
        return _annotated(find_layout(root), root)
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
            f"{root} is in no layout that can be checked as it lies: expected images/ and labels/, the Data Science "
            f"Bowl's stage1_train, or one of {', '.join(sorted(OTHERS))}; any other data set is "
            "checked by the config that trains on it, with python -m cli check --config."
        )
    return _entries(root, sources)


def _annotated(layout: Layout, root: Path) -> tuple[Parts, list[Finding]]:
    images = layout.images(root)
    findings = [Finding("refused", "error", image.problem, (str(image.file),)) for image in images if image.problem]
    items = [Item(image.name, "", image.read, (image.file,)) for image in images if not image.problem]
    return {"images": items}, findings


def _pairs(root: Path) -> tuple[Parts, list[Finding]]:
    images = files_by_name(root / "images", IMAGE_SUFFIXES)
    if not images:
        raise DataError(
            f"{root / 'images'} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}): put the images there."
        )
    labels = {composed(name): paths for name, paths in files_by_name(root / "labels", LABEL_SUFFIXES).items()}
    partners = {name: labels.get(composed(name)) for name in images}
    twice = [path for files in (images, labels) for paths in files.values() if len(paths) > 1 for path in paths]
    lacking = [paths[0] for name, paths in images.items() if not partners[name]]
    unused = [paths[0] for name, paths in labels.items() if name not in map(composed, images)]
    missing = f"put it into {root / 'labels'} under the image's name, as TIFF or PNG, or remove the image."
    findings = [
        *_on_files("twice", "error", "file", twice, "of one name but different types", "keep one of each."),
        *_on_files("no-labels", "error", "image", lacking, "without a label image", missing),
        *_on_files("no-image", "hint", "label image", unused, "without an image", f"put it into {root / 'images'}."),
    ]
    both = {name: (paths[0], found[0]) for name, paths in images.items() if (found := partners[name])}
    items = [Item(name, "", partial(_read_pair, *paths), paths) for name, paths in both.items()]
    return {"images": items}, findings


def _read_pair(image: Path, labels: Path) -> tuple[Pixels, LabelImage]:
    return read_image(image), read_labels(labels)


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
