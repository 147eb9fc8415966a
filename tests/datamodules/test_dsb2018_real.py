"""The real Data Science Bowl 2018: the published facts, from the project's manifest and from the data themselves."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml

from datamodules.cache import Cache
from datamodules.dsb2018 import MANIFEST, DSB2018DataModule, cached_item
from karyon.checks.findings import duplicates, masks, sizes, torn
from karyon.checks.image_facts import survey
from karyon.io.reading import pixel_digest
from karyon.labels import encode_objects
from karyon.metrics.segmentation import segmentation_metrics
from karyon.preprocessing import ScaleToUnit

# The real cache is built, which takes minutes.
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]

# Height and width, px: images; from the data set's reference page.
TRAIN_SIZES = {
    (256, 256): 334,
    (256, 320): 112,
    (520, 696): 92,
    (360, 360): 91,
    (1024, 1024): 16,
    (512, 640): 13,
    (603, 1272): 6,
    (260, 347): 5,
    (1040, 1388): 1,
}


# Fields of view that are both in the training and in the test set, there at another brightness; seen by eye.
SAME_FIELDS = {
    ("0287e7ee", "697a05c6"),
    ("7c318172", "0a849e0e"),
    ("9cdac287", "4be73d68"),
    ("abbfff07", "7f4cbe0b"),
}


def check_facts(rows: list[tuple[str, int, int, str, int]]) -> None:
    """Compares (archive, height, width, image_type, objects) of every image with what is published."""
    train, test = ([row for row in rows if row[0] == name] for name in ("stage1_train", "stage1_test"))
    assert (len(train), sum(row[4] for row in train)) == (670, 29_461)
    assert (len(test), sum(row[4] for row in test)) == (65, 4_152)
    assert Counter(row[1:3] for row in train) == TRAIN_SIZES
    image_types = Counter(row[3] for row in train)
    assert image_types["fluorescence"] + image_types["brightfield"] == 562 and image_types["brightfield"] == 16
    assert image_types["purple-on-purple"] + image_types["purple-on-white"] == 108


def test_the_manifest_holds_the_published_facts() -> None:
    with MANIFEST.open(newline="") as file:
        rows = list(csv.DictReader(file))
    check_facts([(r["archive"], int(r["height"]), int(r["width"]), r["kind"], int(r["objects"])) for r in rows])
    assert len({row["name"] for row in rows}) == 735


@pytest.fixture(scope="module")
def caches(real_dsb2018: Path, real_cache_dir: Path) -> dict[str, Cache]:
    data = DSB2018DataModule(root=real_dsb2018, cache_dir=real_cache_dir)
    return {"stage1_train": data.train_cache(), "stage1_test": data.test_cache()}


@pytest.mark.real_data
def test_the_data_hold_the_published_facts(caches: dict[str, Cache]) -> None:
    records = [(name, record) for name, cache in caches.items() for record in cache.records]
    check_facts([(name, r.height, r.width, r.image_type, r.objects) for name, r in records])
    for name, cache in caches.items():
        channels = Counter(record.channels for record in cache.records)
        assert channels == ({1: 562, 3: 108} if name == "stage1_train" else {1: 53, 3: 12})


@pytest.mark.real_data
def test_what_is_read_from_the_cache_is_what_was_written(caches: dict[str, Cache]) -> None:
    for cache in caches.values():
        for record in cache.records:
            labels = cache.read_labels(record)
            assert labels.max() == record.objects and labels.shape == (record.height, record.width)
            assert pixel_digest(labels) == record.labels_sha256
            assert pixel_digest(cache.read_image(record)) == record.image_sha256


@pytest.mark.real_data
def test_the_cache_stays_under_50_mb(real_cache_dir: Path, caches: dict[str, Cache]) -> None:
    assert len(caches) == 2
    assert 40e6 < sum(path.stat().st_size for path in real_cache_dir.rglob("*") if path.is_file()) < 50e6


@pytest.mark.real_data
def test_run_lengths_of_the_truth_are_the_published_ones(real_dsb2018: Path, caches: dict[str, Cache]) -> None:
    published: dict[str, list[str]] = {}
    with (real_dsb2018 / "stage1_solution.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            published.setdefault(row["ImageId"], []).append(row["EncodedPixels"].strip())
    cache = caches["stage1_test"]
    ours = {record.name: encode_objects(cache.read_labels(record)) for record in cache.records}
    assert sum(map(len, published.values())) == 4_152
    assert ours == published


@pytest.mark.real_data
def test_the_truth_against_itself_scores_exactly_1(real_dsb2018: Path, real_cache_dir: Path) -> None:
    data = DSB2018DataModule(root=real_dsb2018, cache_dir=real_cache_dir, num_workers=0)
    data.setup("test")
    metrics = segmentation_metrics("")
    for item in data.items["test"]:
        labels = torch.from_numpy(item.read()[1])
        metrics.update(labels.clone(), labels, name=item.name, image_type=item.image_type)
    scores = {key: float(value) for key, value in metrics.compute().items() if "/" not in key}
    counts = {key: scores.pop(key) for key in ("count_error", "count_bias", "objects_found", "objects_true")}
    assert counts == {"count_error": 0, "count_bias": 0, "objects_found": 4_152, "objects_true": 4_152}
    assert len(scores) >= 10 and set(scores.values()) == {1.0}


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "config", "counts"),
    [
        ("fluorescence", "fluorescence", {"val": 55, "test": 54, "train": 437}),
        ("stardist", "stardist-split", {"train": 380, "val": 67, "test": 50}),
    ],
)
def test_a_split_of_a_config_is_the_recorded_one(
    name: str, config: str, counts: dict[str, int], real_dsb2018: Path, real_cache_dir: Path
) -> None:
    recorded = json.loads((MANIFEST.parent / f"dsb2018-{name}.json").read_text())["parts"]
    assert {part: len(names) for part, names in recorded.items()} == counts
    content = yaml.safe_load((ROOT / "configs" / "dsb2018" / f"{config}.yaml").read_text())
    data = DSB2018DataModule(root=real_dsb2018, cache_dir=real_cache_dir, **content["data"]["init_args"])
    data.setup("fit")
    data.setup("test")
    digests = {record.name: record.image_sha256 for record in data.train_cache().records}
    for part, names in recorded.items():
        assert {item.name: digests[item.name] for item in data.items[part]} == names
    if name == "stardist":
        objects = {record.name: record.objects for record in data.train_cache().records}
        assert sum(objects[name] for name in recorded["test"]) == 2_460


@pytest.mark.real_data
def test_the_split_is_stratified_and_keeps_duplicates_together(real_dsb2018: Path, real_cache_dir: Path) -> None:
    data = DSB2018DataModule(root=real_dsb2018, cache_dir=real_cache_dir)
    data.setup("fit")
    held_out = {item.name for item in data.items["val"]}
    records = data.train_cache().records
    assert len(data.items["train"]) + len(held_out) == 670
    for image_type, total in Counter(record.image_type for record in records).items():
        share = sum(record.image_type == image_type for record in records if record.name in held_out)
        assert abs(share - 0.2 * total) <= 1
    groups: dict[str, list[str]] = {}
    for record in records:
        groups.setdefault(record.group, []).append(record.name)
    assert max(map(len, groups.values())) > 1
    assert all(len({name in held_out for name in names}) == 1 for names in groups.values())


@pytest.mark.real_data
def test_four_test_images_are_training_images_too(caches: dict[str, Cache]) -> None:
    # Half of all images; the others take the time.
    parts = {
        part: [cached_item(cache, record) for record in cache.records if (record.height, record.width) == (256, 256)]
        for part, cache in caches.items()
    }
    images = list(survey(parts, ScaleToUnit()))
    (leak,) = duplicates(images)
    found = [name[:8] for name in leak.images]
    assert set(zip(found[::2], found[1::2], strict=True)) == SAME_FIELDS
    assert masks(images) == sizes(images) == []
    assert all(found.severity == "hint" for found in torn(images))
