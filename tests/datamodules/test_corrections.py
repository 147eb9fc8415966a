"""The community's corrections: other label images for some training images, and some images left out."""

import csv
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from datamodules.dsb2018 import MANIFEST, DSB2018DataModule
from karyon.io.reading import pixel_digest
from karyon.labels import relabel
from karyon.layouts.dsb2018_annotation import Corrections


@pytest.fixture
def corrected(archives: Path, tmp_path: Path) -> Path:
    """A data set whose first image is corrected to one square nucleus, and whose second is given up."""
    root = shutil.copytree(archives, tmp_path / "root")
    first, second = names(root)[:2]
    labels = np.zeros(image_size(root, first), np.uint16)
    labels[4:9, 4:9] = 700
    with zipfile.ZipFile(root / "stage1_train_corrections.zip", "w") as archive:
        archive.writestr(f"{first}.png", cv2.imencode(".png", labels)[1].tobytes())
        archive.writestr("removed.txt", f"{second}\n")
    return root


def module(root: Path, cache_dir: Path, **kwargs: object) -> DSB2018DataModule:
    arguments: dict[str, object] = {"annotation": "corrected", "manifest": None, "num_workers": 0, **kwargs}
    return DSB2018DataModule(root=root, cache_dir=cache_dir, **arguments)  # type: ignore[arg-type]


def names(root: Path) -> list[str]:
    with zipfile.ZipFile(root / "stage1_train.zip") as archive:
        return sorted({name.split("/")[0] for name in archive.namelist()})


def image_size(root: Path, name: str) -> tuple[int, int]:
    with zipfile.ZipFile(root / "stage1_train.zip") as archive:
        data = archive.read(f"{name}/images/{name}.png")
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).shape[:2]


def test_corrected_labels_replace_the_masks_and_removed_images_are_gone(corrected: Path, tmp_path: Path) -> None:
    original = module(corrected, tmp_path / "cache", annotation="original").train_cache()
    cache = module(corrected, tmp_path / "cache").train_cache()
    first, second = names(corrected)[:2]
    assert [record.name for record in cache.records] == [r.name for r in original.records if r.name != second]
    for record, before in zip(cache.records, (r for r in original.records if r.name != second), strict=True):
        assert record.image_sha256 == before.image_sha256
        assert (record.labels_sha256 == before.labels_sha256) == (record.name != first)
    (record,) = (record for record in cache.records if record.name == first)
    labels = relabel(cache.read_labels(record))
    assert labels.max() == 1 and np.argwhere(labels).min(0).tolist() == [4, 4] and (labels > 0).sum() == 25
    # Validation follows the annotation, the test does not.
    data = module(corrected, tmp_path / "cache")
    data.setup("fit")
    data.setup("test")
    assert len(data.items["train"]) + len(data.items["val"]) == 11
    assert len(data.items["test"]) == 5


def test_other_corrections_are_another_cache(corrected: Path, tmp_path: Path) -> None:
    before = module(corrected, tmp_path / "cache").train_cache().folder
    with zipfile.ZipFile(corrected / "stage1_train_corrections.zip", "w") as archive:
        archive.writestr("removed.txt", names(corrected)[0])
    after = module(corrected, tmp_path / "cache").train_cache()
    assert after.folder != before and len(after.records) == 11


def test_without_corrections_the_sentence_says_what_to_do(archives: Path, tmp_path: Path, refused: Callable) -> None:
    with refused("stage1_train_corrections.zip", archives, "annotation original"):
        module(archives, tmp_path / "cache").train_cache()


@pytest.mark.parametrize("change", ["unknown", "size", "colour"])
def test_corrections_that_do_not_fit_are_refused(
    corrected: Path, tmp_path: Path, refused: Callable, change: str
) -> None:
    first = names(corrected)[0]
    height, width = image_size(corrected, first)
    shapes = {"unknown": (height, width), "size": (height + 1, width), "colour": (height, width, 3)}
    labels = np.zeros(shapes[change], np.uint8)
    name = "stranger" if change == "unknown" else first
    with zipfile.ZipFile(corrected / "stage1_train_corrections.zip", "w") as archive:
        archive.writestr(f"{name}.png", cv2.imencode(".png", labels)[1].tobytes())
    with refused(name, "stage1_train_corrections.zip"):
        module(corrected, tmp_path / "cache").train_cache()


@pytest.mark.real_data
def test_the_real_corrections_are_those_of_the_manifest(real_dsb2018: Path) -> None:
    with MANIFEST.open(newline="") as file:
        rows = list(csv.DictReader(file))
    original, expected = (
        {row["name"]: row for row in rows if row["archive"] == name}
        for name in ("stage1_train", "stage1_train_corrected")
    )
    corrections = Corrections(real_dsb2018)
    assert (len(corrections.files), len(corrections.removed)) == (109, 6)
    assert expected.keys() == original.keys() - corrections.removed
    for name, row in expected.items():
        if name in corrections.files:
            labels = corrections.read_labels(name, (int(row["height"]), int(row["width"])))
            assert pixel_digest(labels) == row["labels_sha256"]
        else:
            assert row["labels_sha256"] == original[name]["labels_sha256"]
        assert row["image_sha256"] == original[name]["image_sha256"]
