"""The real Data Science Bowl 2018 under the checks: what is known to be odd about it is found, and nothing else."""

from pathlib import Path

import pytest

from datamodules.checks import duplicates, masks, sizes, torn
from datamodules.dsb2018 import DSB2018DataModule, cached_item
from datamodules.survey import survey
from datamodules.transforms import ScaleToUnit

# Fields of view that are both in the training and in the test set, there at another brightness; seen by eye.
SAME_FIELDS = {
    ("0287e7ee", "697a05c6"),
    ("7c318172", "0a849e0e"),
    ("9cdac287", "4be73d68"),
    ("abbfff07", "7f4cbe0b"),
}


@pytest.mark.real_data
def test_four_test_images_are_training_images_too(real_dsb2018: Path, real_cache_dir: Path) -> None:
    data = DSB2018DataModule(root=real_dsb2018, cache_dir=real_cache_dir)
    caches = {"train": data.train_cache(), "test": data.test_cache()}
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
