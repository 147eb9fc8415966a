"""Every command reads the same pixels of a file, or refuses it in the same words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from bundles import write_bundle
from test_reading import CHANNELS, GREY8, MIXED, SEVERAL, SINGLE, VIEWED, appended

from datamodules.folder import FolderDataModule
from karyon.checks.folders import find_originals
from karyon.commands.segment import segment
from karyon.errors import DataError
from karyon.layouts.label_folders import LabelFolders
from karyon.model import Model

FILES = {name: entry[0] for name, entry in (SINGLE | VIEWED | SEVERAL | MIXED).items()} | CHANNELS
FILES["series"] = appended(GREY8, GREY8[:10])
# The suffix says nothing, and names are to differ in more than that.
NAMES = {f"{number:03}.tif": name for number, name in enumerate(FILES)}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """By command and file: the pixels of all its images, or what is said of it."""
    root = tmp_path_factory.mktemp("files")
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for file, name in NAMES.items():
        (root / "images" / file).write_bytes(FILES[name])
        tifffile.imwrite(root / "labels" / file, np.zeros((20, 30), np.uint8))
    module = FolderDataModule(root=root, predict_root=root / "images")
    module.setup("predict")
    parts, _ = find_originals(root)
    checked = {item.name: item.read for items in parts.values() for item in items}
    return {
        "fit": {f"{image.name}.tif": told(image.pixels) for image in LabelFolders("labels").images(root)},
        "predict": {f"{item.name}.tif": told(lambda item=item: item.read()[0]) for item in module.items["predict"]},
        "check": {f"{Path(name).stem}.tif": told(lambda read=read: read()[0]) for name, read in checked.items()},
        "segment": segmented(root / "images"),
    }


def told(read: Callable[[], Any]) -> Any:
    try:
        return [read()]
    except DataError as error:
        return str(error)


def segmented(folder: Path) -> dict[str, Any]:
    """What reaches the model."""
    write_bundle(folder.parent / "bundle")
    found: dict[str, Any] = {}
    answer = Model.answer

    def noted(model: Model, image: Any, diameter: Any, name: str, *others: Any) -> Any:
        found.setdefault(Path(name.split(", page")[0]).name, []).append(image)
        return answer(model, image, diameter, name, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Model, "answer", noted)
        out = ["--out", str(folder.parent / "out"), "--model", str(folder.parent / "bundle"), "--device", "cpu"]
        assert segment([str(folder), *out, "--formats", "labels"], "karyon segment") == 1
    return found


@pytest.mark.parametrize("file", NAMES, ids=NAMES.values())
def test_what_one_command_sees_all_see(file: str, seen: dict[str, dict[str, Any]]) -> None:
    fit, *others, images = (command.get(file) for command in seen.values())
    name = NAMES[file]
    if name not in SEVERAL | MIXED | CHANNELS | {"series": 0}:
        for found in (fit, *others, images):
            assert len(found) == 1 and found[0].dtype == fit[0].dtype and np.array_equal(found[0], fit[0])
    else:
        assert isinstance(fit, str) and all(fit.split(": ")[0] == said.split(": ")[0] for said in others)
        expected = (SEVERAL | MIXED)[name][3] if name in SEVERAL | MIXED else []
        assert len(images or []) == len(expected) and all(map(np.array_equal, images or [], expected))
