"""The layouts by name, and which of them a folder has."""

from pathlib import Path

from karyon.errors import DataError
from karyon.layouts import LayoutName
from karyon.layouts.aperio import Aperio
from karyon.layouts.cellpose import Cellpose
from karyon.layouts.coco import Coco
from karyon.layouts.label_folders import LabelFolders
from karyon.layouts.mask_files import MaskFiles
from karyon.layouts.protocol import Layout
from karyon.layouts.qupath import QuPath

LAYOUTS: dict[LayoutName, Layout] = {
    "karyon": LabelFolders("labels"),
    "stardist": LabelFolders("masks"),
    "cellpose": Cellpose(),
    "dsb2018": MaskFiles(),
    "coco": Coco(),
    "qupath": QuPath(),
    "aperio": Aperio(),
}


def matching_layouts(root: Path) -> dict[LayoutName, Layout]:
    """The layouts that a folder, or a file, looks like."""
    return {name: layout for name, layout in LAYOUTS.items() if layout.matches(root)}


def find_layout(root: Path) -> Layout:
    """The one layout that a folder, or a file, looks like.

    Raises:
        DataError: there is no such folder, or it looks like none or several.
    """
    found = matching_layouts(root)
    if len(found) > 1:
        names = " or ".join(f"{name} ({layout})" for name, layout in found.items())
        raise DataError(
            f"{root} could be laid out as {names}: say which by --from NAME, or in training by --data.init_args.layout."
        )
    if not found:
        what = "is not" if root.exists() else "is not there, or not"
        raise DataError(
            f"{root} {what} laid out as images/ and labels/, nor as one of {', '.join(list(LAYOUTS)[1:])}: make both "
            "folders, with files of equal names."
        )
    return next(iter(found.values()))
