"""What belongs together stays together: patients, plates and slides, by a pattern or a table, in shares and folds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from datamodules.combined import CombinedDataModule
from datamodules.dsb2018 import DSB2018DataModule
from datamodules.folder import FolderDataModule
from datamodules.monuseg import MoNuSegDataModule
from karyon.preprocessing import PercentileNormalize

Parts = dict[str, list[str]]


def write(root: Path, names: list[str]) -> Path:
    """Images of four objects each, and their label images."""
    labels = np.zeros((40, 40), np.uint16)
    labels[4:12, 4:12], labels[4:12, 20:30], labels[22:30, 4:12], labels[20:36, 20:36] = 1, 2, 3, 4
    for number, name in enumerate(names):
        noise = np.random.default_rng(number).integers(0, 99, labels.shape)
        for folder, pixels in (("images", ((labels > 0) * 150 + noise).astype(np.uint8)), ("labels", labels)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(root / folder / f"{name}.tif", pixels)
    return root


def parts_of(root: Path, stage: str = "fit", **kwargs: Any) -> Parts:
    data = FolderDataModule(root, num_workers=0, **kwargs)
    data.setup(stage)
    return {part: [item.name for item in items] for part, items in data.items.items() if items}


PATIENTS = [f"p{patient}-{tile}" for patient in range(6) for tile in range(1 + patient % 3)]
PATTERN = "^(p[0-9])"


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    return write(tmp_path / "patients", PATIENTS)


@pytest.mark.parametrize("kwargs", [{"val_fraction": 0.3, "test_fraction": 0.2}, {"folds": 3, "fold": 1}])
def test_groups_stay_on_one_side(kwargs: dict[str, Any], patients: Path, tmp_path: Path) -> None:
    by_name = parts_of(patients, group_pattern=PATTERN, **kwargs)
    seen = [{name[:2] for name in by_name[part]} for part in ("train", "val", "test")]
    assert sum(map(len, seen)) == 6 and sorted(name for names in by_name.values() for name in names) == PATIENTS
    rows = "".join(f"{name}.tif,{name[:2]}\n" for name in PATIENTS)
    (tmp_path / "table.csv").write_text(f"\ufeffimage,patient\n{rows}")
    table = {"group_table": tmp_path / "table.csv", "group_column": "patient"}
    assert parts_of(patients, **table, **kwargs) == by_name


def test_folds_hold_every_image_out_once(patients: Path) -> None:
    kwargs = {"group_pattern": PATTERN, "folds": 3}
    found = [parts_of(patients, fold=fold, **kwargs) for fold in range(3)]
    assert sorted(name for parts in found for name in parts["test"]) == PATIENTS
    assert [parts["val"] for parts in found] == [found[k - 1]["test"] for k in range(3)]
    assert all(3 <= len(parts["test"]) <= 5 for parts in found), "of about one size"
    alone = parts_of(patients, fold=0, test_root=write(patients.parent / "test", ["p9-0"]), **kwargs)
    assert alone["val"] == found[0]["test"] and alone["test"] == ["p9-0"]


def test_a_copy_of_an_image_binds_two_groups(patients: Path) -> None:
    for folder in ("images", "labels"):
        (patients / folder / "p5-9.tif").write_bytes((patients / folder / "p0-0.tif").read_bytes())
    for seed in range(5):
        parts = parts_of(patients, group_pattern=PATTERN, split_seed=seed, val_fraction=0.3)
        assert any({"p0-0", "p5-0", "p5-1", "p5-2", "p5-9"} <= set(names) for names in parts.values())


def test_a_validation_folder(patients: Path, tmp_path: Path, refused: Callable) -> None:
    other = write(tmp_path / "other", ["x0", "x1"])
    parts = parts_of(patients, val_root=other, test_fraction=0.0)
    assert parts == {"train": PATIENTS, "val": ["x0", "x1"]}
    assert parts_of(tmp_path / "none", "validate", val_root=other) == {"val": ["x0", "x1"]}
    write(other, ["p3-7"])
    with refused(other, patients, "both hold images of p3"):
        parts_of(patients, val_root=other, test_fraction=0.0, group_pattern="^(..)")


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"group_pattern": "(p"}, "is not a regular expression"),
        ({"group_pattern": "p"}, "has 0 groups in brackets: expected one"),
        ({"group_pattern": "-([12])"}, "finds nothing in the names of 6 images, p0-0 first"),
        ({"group_table": "none.csv"}, "none.csv cannot be read"),
        ({"group_table": "table.csv"}, "the columns image and group"),
        ({"group_table": "table.csv", "group_column": "plate"}, "tells no plate of 10 images, p1-0 first"),
        ({"group_table": "twice.csv", "group_column": "plate"}, "lists p0-0 in two groups"),
        ({"val_fraction": 0.9, "group_pattern": PATTERN}, "6 groups of images, too few to hold val and test out of"),
        ({"folds": 7, "group_pattern": PATTERN}, "6 groups of images, too few for 7 folds"),
    ],
)
def test_groups_that_are_none_are_refused(
    kwargs: dict[str, Any], sentence: str, patients: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable
) -> None:
    monkeypatch.chdir(patients)
    Path("table.csv").write_text("image,plate\np0-0,A\np1-1,A\np1-0,\np9-9,B\n")
    Path("twice.csv").write_text("image,plate\np0-0,A\np0-0,B\n")
    with refused(sentence):
        parts_of(patients, **kwargs)


# --- several data sets


@pytest.fixture
def tissue(tmp_path: Path) -> MoNuSegDataModule:
    root = write(tmp_path / "tissue", [f"TCGA-A{k}-0000-{tile}" for k in range(5) for tile in range(2)])
    return MoNuSegDataModule(root, cache_dir=tmp_path / "cache")


@pytest.fixture
def stained(layout: Path, tmp_path: Path) -> DSB2018DataModule:
    return DSB2018DataModule(root=layout, cache_dir=tmp_path / "cache", manifest=None)


def test_monuseg_keeps_patients_apart_and_reads_from_a_cache(
    tissue: MoNuSegDataModule, tmp_path: Path, refused: Callable
) -> None:
    tissue.setup("fit")
    names = {part: {item.name for item in items} for part, items in tissue.items.items() if items}
    assert {part: len(found) for part, found in names.items()} == {"train": 6, "val": 2, "test": 2}
    assert sum(len({name[:12] for name in found}) for found in names.values()) == 5
    before = tissue.items["train"][0].read()[1]
    assert tissue.items["train"][0].image_type == "fluorescence" and before.max() == 4
    (cache,) = tmp_path.glob("cache/tissue-*/index.json")
    changed = next((tmp_path / "tissue" / "labels").glob("*.tif"))
    tifffile.imwrite(changed, (tifffile.imread(changed) == 1).astype(np.uint16))
    tissue.setup("fit")
    assert min(item.read()[1].max() for items in tissue.items.values() for item in items) == 1 and cache.exists()
    with refused(tmp_path / "none", "MoNuSeg 2018 Training Data", "Tissue Images/ and Annotations/"):
        MoNuSegDataModule(tmp_path / "none").setup("fit")


def test_several_data_sets_are_drawn_from_by_weight(tissue: MoNuSegDataModule, stained: DSB2018DataModule) -> None:
    data = CombinedDataModule([stained, tissue, tissue], [1.0, 2.0, 1.0], balance=1.0, num_workers=0)
    data.prepare_data()
    data.setup("fit")
    assert [*data.datasets] == ["DSB2018", "MoNuSeg", "MoNuSeg-2"] and data.licence == "CC-BY-NC-SA-4.0"
    for part, found in data.items.items():
        assert len(found) == sum(len(one.items[part]) for one in data.datasets.values())
    assert len({item.name for item in data.items["val"]}) == len(data.items["val"])
    types = {item.image_type for item in data.items["val"]}
    assert {"MoNuSeg/fluorescence", "MoNuSeg-2/fluorescence"} < types
    data.samples_per_epoch = 4000
    loader = data.train_dataloader()
    drawn = [loader.dataset.items[draw.item].image_type for draw in loader.sampler]
    shares = {name: sum(kind.startswith(f"{name}/") for kind in drawn) / 4000 for name in data.datasets}
    assert shares == pytest.approx({"DSB2018": 0.25, "MoNuSeg": 0.5, "MoNuSeg-2": 0.25}, abs=0.03)
    dsb = [kind for kind in drawn if kind.startswith("DSB2018/")]
    assert dsb.count(dsb[0]) / len(dsb) == pytest.approx(1 / len(set(dsb)), abs=0.05), "balanced within a data set"
    assert data.provenance["datasets"]["MoNuSeg"] == {
        "images": {"train": 6, "val": 2, "test": 2},
        "licence": "CC-BY-NC-SA-4.0",
    }
    assert "MoNuSeg: 6 to train on, 2 to validate on, 2 to test on." in data.summary()


def test_combinations_that_make_no_sense_are_refused(tissue: MoNuSegDataModule, tmp_path: Path) -> None:
    for weights in ([1.0], [1.0, -1.0], [1.0, 0.0]):
        with pytest.raises(ValueError, match="2 data sets have the weights"):
            CombinedDataModule([tissue, tissue], weights)
    own = FolderDataModule(tmp_path, normalization=PercentileNormalize())
    with pytest.raises(ValueError, match="move image_size, normalization and augmentations of Folder"):
        CombinedDataModule([tissue, own])
