"""Reads what Karyon has written, and what it trains on: folders of results, and layouts of annotated images."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from karyon.napari.samples import Layer

MOST = 20  # images that are shown


def get_reader(path: str | list[str]) -> "Callable[[Any], list[Layer]] | None":
    """What reads a folder; None where it is no folder of Karyon's, which others read.

    Args:
        path: that the user opens.
    """
    # Asked of every file that is opened, so that nothing is imported before it is a folder.
    if not isinstance(path, str) or not (folder := Path(path)).is_dir():
        return None
    if (folder / "labels").is_dir() and (folder / "counts.csv").is_file():
        return read_results
    from karyon.layouts.all_layouts import matching_layouts

    return read_annotated if len(matching_layouts(folder)) == 1 else None


def read_results(path: str) -> "list[Layer]":
    """The label images of a folder of results, with the scores of their objects.

    Raises:
        DataError: a file of it is damaged.
    """
    import csv

    from karyon.io.file_names import without_suffix
    from karyon.io.reading import open_image
    from karyon.napari.segmenting import features

    folder, scores = Path(path), dict[str, dict[int, float]]()
    if (folder / "objects.csv").is_file():
        with (folder / "objects.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                scores.setdefault(without_suffix(row["image"]), {})[int(row["id"])] = float(row["score"])
    layers: list[Layer] = []
    for file_path in _first(sorted((folder / "labels").rglob("*.tif"))):
        name = file_path.relative_to(folder / "labels").with_suffix("").as_posix()
        pages = open_image(file_path, raw=True)
        labels = _stacked(pages)
        # In stacks, each plane counts from 1.
        own = scores.get(without_suffix(name), {}) if labels.ndim == 2 else {}
        layers.append((labels, {"name": name, "features": features(labels, own)}, "labels"))
    return layers


def read_annotated(path: str) -> "list[Layer]":
    """Images, and above each what is annotated in it.

    Raises:
        DataError: a file cannot be read.
    """
    from karyon.layouts.all_layouts import find_layout

    layers: list[Layer] = []
    for image in _first(find_layout(Path(path)).images(Path(path))):
        pixels, labels = image.read()
        layers.append((pixels, {"name": image.name, "rgb": pixels.ndim == 3, "visible": not layers}, "image"))
        layers.append((labels, {"name": f"{image.name} labels", "visible": len(layers) == 1}, "labels"))
    return layers


def _stacked(pages: Any) -> Any:
    import numpy as np

    planes = np.stack([pages.read(k) for k in range(len(pages))]).astype(np.int32)
    return planes.reshape(*pages.shape, *planes.shape[1:]) if len(pages) > 1 else planes[0]


def _first(found: list[Any]) -> list[Any]:
    """So many as can be looked at; says how many are left out."""
    if len(found) > MOST:
        from napari.utils.notifications import show_warning

        show_warning(f"{len(found)} images: the first {MOST} are shown; open a smaller folder for the others.")
    return found[:MOST]
