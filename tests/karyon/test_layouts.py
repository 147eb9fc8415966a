"""Which tool wrote a folder is found out, and its annotation read, or it is said why not."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from foreign_annotation import IMAGE, LABELS, coco, feature, ring, save

from datamodules.folder import FolderDataModule
from karyon.layouts import LayoutName
from karyon.layouts.all_layouts import LAYOUTS, find_layout
from karyon.layouts.cellpose import Cellpose
from karyon.layouts.coco import Coco
from karyon.layouts.label_folders import LabelFolders
from karyon.layouts.mask_files import MaskFiles
from karyon.layouts.qupath import QuPath


def stardist(root: Path, name: str = "a") -> None:
    save(root / "images" / f"{name}.tif", IMAGE)
    save(root / "masks" / f"{name}.tif", LABELS)


def test_a_folder_of_one_layout_is_recognised(layout: Path, tmp_path: Path) -> None:
    stardist(tmp_path)
    assert find_layout(tmp_path) == LabelFolders("masks")
    (tmp_path / "masks").rename(tmp_path / "labels")
    assert find_layout(tmp_path) == LabelFolders("labels")
    assert find_layout(layout / "stage1_train") == MaskFiles()


def test_the_command_line_lists_all_layouts() -> None:
    assert tuple(LAYOUTS) == get_args(LayoutName)


def test_an_ambiguous_folder_is_refused_with_its_candidates(tmp_path: Path, refused: Callable) -> None:
    stardist(tmp_path)
    save(tmp_path / "labels" / "a.tif", LABELS)
    save(tmp_path / "images" / "a_masks.tif", LABELS)
    with refused(
        tmp_path, "karyon (LabelFolders(labels='labels')) or stardist", "or cellpose (Cellpose())", "--from NAME"
    ):
        find_layout(tmp_path)
    with refused(tmp_path, "--data.init_args.layout"):
        FolderDataModule(tmp_path).setup("fit")
    data = FolderDataModule(tmp_path, layout=Cellpose(), predict_root=None)
    data.setup("predict")
    assert [item.name for item in data.items["predict"]] == ["images/a", "labels/a", "masks/a"]


def test_an_unknown_folder_is_refused_with_what_is_known(tmp_path: Path, refused: Callable) -> None:
    save(tmp_path / "a.tif", IMAGE)
    for root in (tmp_path, tmp_path / "none"):
        with refused(root, "images/ and labels/", ", ".join(list(LAYOUTS)[1:])):
            find_layout(root)


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name not in ("coco", "dsb2018")])
def test_an_image_without_its_annotation_is_known_before_training(name: str, tmp_path: Path, refused: Callable) -> None:
    for picture in ("a", "b"):
        stardist(tmp_path, picture)
    (tmp_path / "labels").mkdir()
    with refused(tmp_path / "images" / "a.tif", "expected"):
        (tmp_path / "masks" / "a.tif").unlink()
        FolderDataModule(tmp_path, layout=LAYOUTS[name]).setup("fit")


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_empty_folder_is_refused_by_each(name: str, tmp_path: Path, refused: Callable) -> None:
    for root in (tmp_path / "none", tmp_path):
        with refused(root):
            LAYOUTS[name].images(root)


def test_images_of_every_layout_travel_to_workers(layout: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "a"), "zip", layout / "stage1_train"))
    stardist(tmp_path / "s")
    save(tmp_path / "s" / "images" / "a.geojson", [feature("Polygon", [ring(1, 1, 3)])])
    save(tmp_path / "s" / "coco.json", coco(names=("a.tif",)))
    roots = {MaskFiles(): archive, LabelFolders("masks"): tmp_path / "s", Coco(): tmp_path / "s"}
    roots |= {QuPath(): tmp_path / "s" / "images"}
    for known, root in roots.items():
        assert root == tmp_path / "s" or find_layout(root) == known
        for image in known.images(root):
            (_, expected), (_, labels) = image.read(), pickle.loads(pickle.dumps(image)).read()
            assert (labels == expected).all()
