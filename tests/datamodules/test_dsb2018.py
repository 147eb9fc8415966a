"""The Data Science Bowl 2018: the same from archives and folders, checked against its manifest, and the real one."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from datamodules import dsb2018
from datamodules.cache import Cache
from datamodules.content import read_content_manifest
from datamodules.dsb2018 import MANIFEST, DSB2018DataModule
from karyon.labels import encode_objects
from karyon.layouts.dsb2018_annotation import SolutionTable

TYPES = ("fluorescence", "brightfield", "purple-on-purple", "purple-on-white")


def module(root: Path, cache_dir: Path, stages: str = "", **kwargs: Any) -> DSB2018DataModule:
    """A data module, set up for some stages."""
    data = DSB2018DataModule(root=root, cache_dir=cache_dir, **{"manifest": None, "num_workers": 0, **kwargs})
    for stage in stages.split():
        data.setup(stage)
    return data


@pytest.fixture(scope="module")
def cache_dir(archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    module(archives, folder).prepare_data()
    return folder


@pytest.fixture(scope="module")
def manifest(archives: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A content manifest of the small data set, as the project keeps one of the real one."""
    path = tmp_path_factory.mktemp("manifest") / "manifest.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["archive", "name", "height", "width", "image_type", "objects", "image_sha256", "labels_sha256"])
        data = module(archives, cache_dir)
        for archive, cache in (("stage1_train", data.train_cache()), ("stage1_test", data.test_cache())):
            for r in cache.records:
                rows.writerow(
                    [archive, r.name, r.height, r.width, r.image_type, r.objects, r.image_sha256, r.labels_sha256]
                )
    return path


def test_archives_and_folders_give_the_same_cache(
    layout: Path, cache_dir: Path, archives: Path, tmp_path: Path
) -> None:
    packed, extracted = module(archives, cache_dir), module(layout, tmp_path)
    for one, other in (
        (packed.train_cache(), extracted.train_cache()),
        (packed.test_cache(), extracted.test_cache()),
    ):
        assert one.records == other.records and one.folder.name == other.folder.name
    assert len(packed.train_cache().records) == 12 and len(packed.test_cache().records) == 5


def test_the_cache_holds_the_images_and_each_mask_file(layout: Path, cache_dir: Path) -> None:
    cache = module(layout, cache_dir).train_cache()
    for record in cache.records:
        folder = layout / "stage1_train" / record.name
        image = cv2.imread(str(folder / "images" / f"{record.name}.png"))
        read = cache.read_image(record)
        assert np.array_equal(np.dstack([read] * 3) if read.ndim == 2 else read, image[..., ::-1])
        labels = cache.read_labels(record)
        masks = sorted((folder / "masks").iterdir())
        assert labels.max() == len(masks) == record.objects
        for number, path in enumerate(masks, start=1):
            assert np.array_equal(labels == number, np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)) > 0)


def test_run_lengths_of_the_cached_truth_are_the_solution(archives: Path, cache_dir: Path) -> None:
    cache = module(archives, cache_dir).test_cache()
    table = SolutionTable(archives / "stage1_solution.csv")
    assert {record.name: encode_objects(cache.read_labels(record)) for record in cache.records} == table.codes


def test_a_second_preparation_does_not_decode_an_original(
    archives: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: object) -> Cache:
        raise AssertionError("built again")

    monkeypatch.setattr(dsb2018, "build_cache", build)
    module(archives, cache_dir).prepare_data()


def test_pinned_content_needs_no_originals_once_it_is_cached(archives: Path, manifest: Path, tmp_path: Path) -> None:
    root = shutil.copytree(archives, tmp_path / "root")
    module(root, tmp_path / "cache", manifest=manifest).prepare_data()
    shutil.rmtree(root)
    data = module(root, tmp_path / "cache", manifest=manifest)
    data.prepare_data()
    for stage in ("fit", "test", "predict"):
        data.setup(stage)
    assert {part: len(items) for part, items in data.items.items()} == {"train": 9, "val": 3, "test": 5, "predict": 5}


def test_a_changed_annotation_of_own_test_images_is_not_taken_from_an_old_cache(own: Path, tmp_path: Path) -> None:
    before = module(own, tmp_path / "cache").test_cache()
    lines = (own / "stage1_solution.csv").read_text().splitlines(keepends=True)
    (own / "stage1_solution.csv").write_text("".join(lines[:-1]))
    after = module(own, tmp_path / "cache").test_cache()
    assert sum(record.objects for record in after.records) == sum(record.objects for record in before.records) - 1


def test_setup_serves_every_stage(archives: Path, cache_dir: Path) -> None:
    data = module(archives, cache_dir, batch_size=2, image_size=32, stages="fit")
    assert sorted(path.name for path in (cache_dir / "splits").iterdir())
    names = [name for batch in data.train_dataloader() for name in batch.names]
    held_out = [name for batch in data.val_dataloader() for name in batch.names]
    assert len(names) == 9 and len(held_out) == 3 and not set(names) & set(held_out)
    data.setup("test")
    for batch in data.test_dataloader():
        assert batch.image.shape == (1, 3, 32, 32) and batch.image_types[0] in TYPES
        assert batch.truths[0].shape == batch.sizes[0] and batch.truths[0].max() > 0


# --- the split


def test_the_split_is_written_once_and_read_back(archives: Path, cache_dir: Path, tmp_path: Path) -> None:
    def split(**options: object) -> dict[str, set[str]]:
        data = module(archives, cache, val_fraction=0.25, split_seed=7, **options, stages="fit")
        return {part: {item.name for item in data.items[part]} for part in ("train", "val")}

    cache = shutil.copytree(cache_dir, tmp_path / "cache")
    first = split()
    (path,) = [path for path in (cache / "splits").iterdir() if "seed7" in path.name]
    content = json.loads(path.read_text())
    digests = {record.name: record.image_sha256 for record in module(archives, cache).train_cache().records}
    assert content["parts"]["val"] | content["parts"]["train"] == digests
    # What the file says counts: an image taken out of it by hand stays out.
    dropped = content["parts"]["train"].popitem()[0]
    path.write_text(json.dumps(content))
    expected = {"train": first["train"] - {dropped}, "val": first["val"]}
    assert split() == split(split_manifest=path) == expected and json.loads(path.read_text()) == content


def test_a_share_of_some_types_is_tested_on_in_place_of_the_test_set(archives: Path, cache_dir: Path) -> None:
    options = {"image_types": ["fluorescence"], "val_fraction": 0.25, "test_fraction": 0.25}
    data = module(archives, cache_dir, **options, stages="fit test")
    records = {record.name: record for record in data.train_cache().records}
    parts = [{item.name for item in data.items[part]} for part in ("train", "val", "test")]
    assert all(parts) and sum(map(len, parts)) == len(set().union(*parts))
    assert set().union(*parts) == {name for name, record in records.items() if record.image_type == "fluorescence"}
    again = module(archives, cache_dir, **options, stages="test")
    assert [item.name for item in again.items["test"]] == [item.name for item in data.items["test"]]
    item = again.items["test"][0]
    assert np.array_equal(item.read()[0], data.train_cache().read_image(records[item.name]))
    # Without a share held out, the test set is tested on.
    usual = module(archives, cache_dir, stages="test")
    assert {item.name for item in usual.items["test"]} == {record.name for record in usual.test_cache().records}


def test_whole_types_are_validated_on_and_none_of_them_trained_on(archives: Path, cache_dir: Path) -> None:
    data = module(archives, cache_dir, val_image_types=["fluorescence"], stages="fit")
    train, val = ({item.image_type for item in data.items[part]} for part in ("train", "val"))
    assert val == {"fluorescence"} and train and not train & val
    records = data.train_cache().records
    assert len(data.items["val"]) == sum(record.image_type == "fluorescence" for record in records)
    assert len(data.items["train"]) + len(data.items["val"]) == len(records)


def test_unknown_types_and_contradictions_are_refused(archives: Path, cache_dir: Path, refused: Callable) -> None:
    with refused("No image is of the type phase", "name some of ", "fluorescence"):
        module(archives, cache_dir, image_types=["phase"]).setup("fit")
    with pytest.raises(ValueError, match="do not go together"):
        module(archives, cache_dir, val_image_types=["fluorescence"], test_fraction=0.1)


def test_a_split_of_other_parts_is_refused(archives: Path, cache_dir: Path, tmp_path: Path, refused: Callable) -> None:
    (tmp_path / "split.json").write_text(json.dumps({"parts": {"all": {}}}))
    with refused(tmp_path / "split.json", "needs train and val"):
        module(archives, cache_dir, split_manifest=tmp_path / "split.json").setup("fit")


# --- what is wrong with the data


def test_a_missing_root_says_how_to_point_at_it_or_download(tmp_path: Path, refused: Callable) -> None:
    for manifest in (None, MANIFEST):
        with refused(tmp_path / "none", "--data.init_args.root FOLDER", "--data.init_args.download true"):
            module(tmp_path / "none", tmp_path / "cache", manifest=manifest).prepare_data()
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def image(own: Path) -> Path:
    """The first training image."""
    return sorted((own / "stage1_train").glob("*/images/*.png"))[0]


def change_pixel(path: Path) -> None:
    pixels = np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    pixels[..., 0] ^= 1
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


DIFFER = ("{name}", "differ from the published ones", "manifest: null")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (change_pixel, (*DIFFER, "pixels", "download")),
        (lambda path: next(path.parents[1].glob("masks/*")).unlink(), (*DIFFER, "nuclei")),
        (lambda path: shutil.rmtree(path.parents[1]), ("lacks 1 of 12 images", "{name}", "download the archive again")),
        (
            lambda path: shutil.copytree(path.parents[1], path.parents[2] / "added"),
            ("1 image not in the manifest", "added", "manifest: null"),
        ),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), ("{name}.png cannot be read", "cut short")),
    ],
    ids=["pixel", "mask", "image lost", "image added", "cut short"],
)
def test_data_that_differ_from_the_manifest_are_refused(
    damage: Callable[[Path], object],
    sentence: tuple[str, ...],
    own: Path,
    image: Path,
    manifest: Path,
    tmp_path: Path,
    refused: Callable,
) -> None:
    damage(image)
    with refused(own / "stage1_train", *(text.format(name=image.stem) for text in sentence)):
        module(own, tmp_path / "cache", manifest=manifest).prepare_data()
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"], "nothing of it is kept"


def test_the_table_and_the_images_that_it_names_must_be_there(own: Path, tmp_path: Path, refused: Callable) -> None:
    lost = sorted((own / "stage1_test").iterdir())[0]
    shutil.rmtree(lost)
    with refused(own / "stage1_test", lost.name, "stage1_solution.csv"):
        module(own, tmp_path / "cache").test_cache()
    (own / "stage1_solution.csv").unlink()
    with refused(own / "stage1_solution.csv", "No such file"):
        module(own, tmp_path / "cache").test_cache()


@pytest.mark.parametrize("text", [None, "", "archive,name\n", "archive,name\na,b\n", "\xff\xfe\0"])
def test_what_is_no_content_manifest_is_refused(text: str | None, tmp_path: Path, refused: Callable) -> None:
    """Most of all an empty one, which would switch the check off."""
    if text is not None:
        (tmp_path / "manifest.csv").write_bytes(text.encode("latin-1"))
    with refused(tmp_path / "manifest.csv", "not a readable content manifest"):
        read_content_manifest(tmp_path / "manifest.csv")


def test_stage_2_keeps_the_scored_images_only(own: Path, tmp_path: Path) -> None:
    (own / "stage1_test").rename(own / "stage2_test_final")
    rows = list(csv.DictReader((own / "stage1_solution.csv").open()))
    ignored = rows[0]["ImageId"]
    with (own / "stage2_solution_final.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows({**row, "Usage": "Ignored" if row["ImageId"] == ignored else "Public"} for row in rows)
    data = module(own, tmp_path / "cache", test_set="stage2", stages="test")
    names = [item.name for item in data.items["test"]]
    assert len(names) == 4 and ignored not in names
