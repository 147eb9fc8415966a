"""The images of a folder, in either layout, and what is wrong with its files."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import cv2
import numpy as np
import pytest

from datamodules.dsb2018 import DSB2018DataModule
from datamodules.folder import FolderDataModule
from karyon.checks.folders import find_originals
from karyon.layouts.coco import Coco
from karyon.layouts.label_folders import LabelFolders

Refused = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Five pairs of an image and a label image."""
    for k in range(5):
        for folder in ("images", "labels"):
            path = tmp_path / "mine" / folder / "plate" / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((9, 9), k, np.uint8))
    return tmp_path / "mine"


def test_pairs_are_those_of_the_data_module(pairs: Path) -> None:
    parts, findings = find_originals(pairs)
    module = FolderDataModule(pairs)
    module.setup("fit")
    expected = {item.name: item for part in module.items.values() for item in part}
    assert findings == [] and list(parts) == ["images"] and len(expected) == 5
    for item in parts["images"]:
        assert item.files == (pairs / f"images/{item.name}.png", pairs / f"labels/{item.name}.png")
        assert expected[item.name].files == item.files[:1]
        for read, other in zip(item.read(), expected[item.name].read(), strict=True):
            assert (read == other).all()


def test_names_with_accents_find_each_other_whichever_system_wrote_them(pairs: Path) -> None:
    (pairs / "images/plate/0.png").rename(pairs / "images/plate/caf\u00e9.png")
    (pairs / "labels/plate/0.png").rename(pairs / "labels/plate/cafe\u0301.png")
    parts, findings = find_originals(pairs)
    assert findings == [] and len(parts["images"]) == 5
    assert [image.problem for image in LabelFolders().images(pairs)] == [""] * 5
    annotation = {"images": [{"id": 1, "file_name": "plate/cafe\u0301.png"}], "annotations": []}
    (pairs / "images/coco.json").write_text(json.dumps(annotation))
    (image,) = Coco().images(pairs / "images")
    assert image.problem == "" and image.file == pairs / "images/plate/caf\u00e9.png"


def test_all_files_without_a_partner_are_named(pairs: Path) -> None:
    for k in (0, 3):
        (pairs / f"labels/plate/{k}.png").unlink()
    (pairs / "images/plate/1.png").unlink()
    cv2.imwrite(str(pairs / "images/plate/2.tif"), np.zeros((9, 9), np.uint8))
    # No label images, by their kind or as what an editor leaves.
    (pairs / "labels/plate/0.jpg").touch()
    (pairs / "labels/plate/._0.png").touch()
    parts, findings = find_originals(pairs)
    assert [item.name for item in parts["images"]] == ["plate/2", "plate/4"]
    assert [found.severity for found in findings] == ["error", "error", "hint"]
    assert findings[1].sentence.startswith(f"2 images without a label image ({pairs}/images/plate/0.png, ")
    images, labels = str(pairs / "images/plate/"), str(pairs / "labels/plate/")
    assert {found.kind: found.images for found in findings} == {
        "twice": (f"{images}/2.png", f"{images}/2.tif"),
        "no-labels": (f"{images}/0.png", f"{images}/3.png"),
        "no-image": (f"{labels}/1.png",),
    }


@pytest.mark.parametrize("packed", [False, True])
def test_the_data_science_bowl_is_read_from_its_originals(
    packed: bool, layout: Path, archives: Path, tmp_path: Path
) -> None:
    root = archives if packed else layout
    parts, findings = find_originals(root)
    module = DSB2018DataModule(root=layout, cache_dir=tmp_path, manifest=None)
    assert findings == []
    assert {part: len(items) for part, items in parts.items()} == {"stage1_train": 12, "stage1_test": 5}
    for part, cache in (("stage1_train", module.train_cache()), ("stage1_test", module.test_cache())):
        labels = {item.name: item.read()[1] for item in parts[part]}
        assert all((labels[record.name] == cache.read_labels(record)).all() for record in cache.records)


def test_one_archive_without_its_table_has_images_alone(layout: Path, own: Path) -> None:
    parts, findings = find_originals(layout / "stage1_train")
    assert findings == [] and len(parts["stage1_train"]) == 12
    assert all(labels.max() for _, labels in (item.read() for item in parts["stage1_train"]))
    (own / "stage1_solution.csv").unlink()
    parts, _ = find_originals(own)
    assert [item.read()[1] for item in parts["stage1_test"]] == [None] * 5


def test_what_is_wrong_with_one_archive_leaves_the_other(own: Path) -> None:
    stray = own / "stage1_test" / "stray.png"
    stray.touch()
    parts, (found,) = find_originals(own)
    assert list(parts) == ["stage1_train"] and found.severity == "error" and "stray.png" in found.sentence
    stray.unlink()
    shutil.rmtree(own / "stage1_test")
    (own / "stage1_test.zip").write_bytes(b"no archive")
    parts, (found,) = find_originals(own)
    assert "stage1_test.zip is not a readable zip archive" in found.sentence


def test_a_folder_is_looked_at_without_the_packages_of_training(pairs: Path) -> None:
    code = f"""
import sys
from karyon.commands.check import check
assert not {{"numpy", "cv2"}} & set(sys.modules), "arguments are parsed first"
check(["{pairs}", "--out", "{pairs}/out"], "karyon check")
assert not {{"torch", "lightning", "albumentations", "faster_coco_eval"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)
    assert (pairs / "out" / "contact-sheet.png").is_file()


def test_what_is_no_data_set_is_refused(refused: Refused, tmp_path: Path) -> None:
    with refused(f"There is no folder {tmp_path / 'nowhere'}"):
        find_originals(tmp_path / "nowhere")
    with refused(f"{tmp_path} is in no layout"):
        find_originals(tmp_path)
    (tmp_path / "images").mkdir()
    with refused(f"{tmp_path / 'images'} holds no image"):
        find_originals(tmp_path)


def test_layouts_of_other_tools_are_read_as_training_reads_them(pairs: Path, tmp_path: Path) -> None:
    (pairs / "labels").rename(pairs / "masks")
    (pairs / "masks" / "plate" / "3.png").unlink()
    parts, (finding,) = find_originals(pairs)
    assert [item.name for item in parts["images"]] == ["plate/0", "plate/1", "plate/2", "plate/4"]
    assert finding.severity == "error" and "3.png" in finding.sentence
