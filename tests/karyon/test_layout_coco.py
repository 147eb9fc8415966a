"""Annotation in COCO JSON becomes the label image that it stands for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_annotation import IMAGE, SIZE, coco, entry, save, square

from karyon.layouts.all_layouts import find_layout
from karyon.layouts.coco import Coco


def test_coco_has_polygons_of_several_parts_overlaps_and_crowds(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", IMAGE)
    save(tmp_path / "images" / "b.png", IMAGE)
    crowd = {"size": [20, 30], "counts": [0, 600]}
    content = coco(
        entry(5, [square(2, 2, 6), square(20, 12, 3)]),
        entry(9, crowd, iscrowd=1),
        entry(2, [square(7, 2, 4)], iscrowd=0),
        names=("a.png", "b.png"),
    )
    save(tmp_path / "coco.json", content)
    save(tmp_path / "other.json", {"settings": 1})
    expected = np.zeros(SIZE, int)
    expected[2:8, 2:8], expected[12:15, 20:23], expected[2:6, 7:11] = 1, 1, 2
    for root in (tmp_path, tmp_path / "coco.json"):
        assert find_layout(root) == Coco()
        first, second = Coco().images(root)
        assert (first.read()[1] == expected).all()
        assert not second.read()[1].any(), "an image without annotations holds no object"


def test_coco_finds_images_in_folders_of_other_names(tmp_path: Path) -> None:
    for name in ("train/a.png", "train/p/a.png", "val/b.png"):
        save(tmp_path / name, IMAGE)
    names = ("p/a.png", "b.png", "train\\a.png")
    path = save(tmp_path / "annotations" / "instances.json", coco(entry(1, [square(1, 1, 3)], image=3), names=names))
    for root in (tmp_path, path):
        images = Coco().images(root)
        assert {image.name: str(image.file.relative_to(tmp_path)) for image in images} == {
            "b": "val/b.png",
            "p/a": "train/p/a.png",
            "train/a": "train/a.png",
        }
        assert [image.read()[1].max() for image in images] == [0, 0, 1]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([], "is not a COCO file"),
        ({"images": [{}], "annotations": []}, "is not a COCO file"),
        (coco(entry(1, [square(1, 1, 3)], image=8)), "is not a COCO file (8): expected"),
        (coco(names=()), "lists no image"),
        (coco(names=("a.png", "a.tif")), "lists two images named a"),
        (coco(names=("../a.png",)), "lists ../a.png, which leaves the folder"),
        (coco(names=("/a.png",)), "lists /a.png, which leaves the folder"),
        (coco(names=("",)), "which leaves the folder"),
    ],
)
def test_what_is_no_coco_file_is_refused(content: Any, sentence: str, tmp_path: Path, refused: Callable) -> None:
    save(tmp_path / "a.png", IMAGE)
    path = save(tmp_path / "coco.json", content)
    with refused(path, sentence):
        Coco().images(path)


def test_coco_files_must_be_clear(tmp_path: Path, refused: Callable) -> None:
    with refused(tmp_path, "holds no COCO file"):
        Coco().images(tmp_path)
    save(tmp_path / "train.json", coco())
    (image,) = Coco().images(tmp_path)
    with refused("train.json lists a.png, which is not below", "put it there"):
        image.read()
    save(tmp_path / "x" / "a.png", IMAGE)
    save(tmp_path / "y" / "a.png", IMAGE)
    (image,) = Coco().images(tmp_path)
    with refused("lists a.png, which could be", "x/a.png", "y/a.png"):
        image.read()
    save(tmp_path / "annotations" / "val.json", coco())
    with refused(tmp_path, "several COCO files (annotations/val.json, train.json)", "in place of the folder"):
        Coco().images(tmp_path)


@pytest.mark.parametrize(
    ("annotation", "sentence"),
    [
        (entry(4, []), "annotation 4 of a.png has no outline"),
        ({"id": 4, "image_id": 1, "bbox": [1, 1, 2, 2]}, "annotation 4 of a.png has no outline"),
        (entry(4, [[1, 2, 3, 4, 5]]), "annotation 4 of a.png has polygons that are none"),
        (entry(4, [square(90, 90, 3)]), "annotation 4 of a.png has a ring that is none, or lies far outside"),
        (entry(4, [square(40, 25, 3)]), "annotation 4 of a.png has no pixel of its own"),
        (entry(4, {"size": [30, 20], "counts": [0, 5]}), "is of an image of [30, 20] px (height, width), not [20, 30]"),
        (entry(4, {"size": [20, 30], "counts": [0, 601]}), "run lengths that are none, or leave"),
        (entry(4, [square(2, 2, 3)]), "annotation 4 of a.png has no pixel of its own, because it is too small"),
    ],
)
def test_bad_annotations_of_coco_are_named(
    annotation: dict[str, Any], sentence: str, tmp_path: Path, refused: Callable
) -> None:
    save(tmp_path / "a.png", IMAGE)
    # The second covers the last of those above.
    save(tmp_path / "coco.json", coco(annotation, entry(5, [square(1, 1, 8)])))
    (image,) = Coco().images(tmp_path)
    with refused(tmp_path / "coco.json", sentence):
        image.read()
