"""The embedded default: drawn once, read by DSB2018's code, the same for everybody."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lightning
import pytest

from datamodules.cache import Record
from datamodules.drawing import write_dsb_layout
from datamodules.synthetic import SyntheticDataModule
from karyon.errors import DataError


def module(folder: Path, **kwargs: object) -> SyntheticDataModule:
    arguments: dict[str, object] = {"train": 20, "test": 4, "size": (48, 48), "num_workers": 0, **kwargs}
    return SyntheticDataModule(root=folder / "synthetic", cache_dir=folder / "cache", **arguments)  # type: ignore[arg-type]


def records(folder: Path, **kwargs: object) -> tuple[list[Record], list[Record]]:
    data = module(folder, **kwargs)
    data.prepare_data()
    return data.train_cache().records, data.test_cache().records


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    module(folder).prepare_data()
    return folder


def test_it_serves_every_stage_with_every_modality(prepared: Path) -> None:
    data = module(prepared, batch_size=1)
    for stage in ("fit", "test", "predict"):
        data.setup(stage)
    counts = {part: len(items) for part, items in data.items.items()}
    assert counts["train"] + counts["val"] == 20 and counts["val"] >= 3 and counts["test"] == counts["predict"] == 4
    train, test = data.train_cache().records, data.test_cache().records
    image_types = Counter(record.image_type for record in train)
    assert image_types["fluorescence"] > 5 and image_types["brightfield"] > 1
    assert image_types["purple-on-purple"] + image_types["purple-on-white"] > 3
    assert all(record.objects >= 2 for record in [*train, *test])
    assert {(record.height, record.width) for record in train} == {(48, 48), (48, 60)}
    assert [record.group for record in train] == [record.name for record in train], "no two are taken for duplicates"
    batch = next(iter(data.train_dataloader()))
    assert batch.labels.max() > 0 and 0 <= batch.image.min() < batch.image.max() <= 1


def test_the_same_arguments_give_the_same_data_and_others_others(prepared: Path, tmp_path: Path) -> None:
    assert records(tmp_path / "again") == records(prepared)
    digests = {record.image_sha256 for part in records(prepared) for record in part}
    for change in ({"seed": 1}, {"size": (40, 48)}):
        other = {record.image_sha256 for part in records(tmp_path, **change) for record in part}
        assert not other & digests
    assert len(list((tmp_path / "synthetic").glob("20-4-*"))) == 4, "two data sets, side by side, and their locks"


def test_what_is_drawn_is_not_drawn_again(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr("datamodules.synthetic.write_dsb_layout", draw)
    module(prepared).prepare_data()


def test_a_process_killed_or_stopped_while_drawing_leaves_no_half_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(root: Path, *_: object) -> None:
        (root / "stage1_train").mkdir(parents=True)
        raise KeyboardInterrupt

    data = module(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("datamodules.synthetic.write_dsb_layout", draw)
        data.prepare_data()
    assert not data.root.exists()
    # What a process that was killed leaves.
    half = data.root.with_suffix(".building") / "stage1_train" / "half" / "images"
    half.mkdir(parents=True)
    (half / "half.png").write_bytes(b"")
    data.prepare_data()
    assert len(data.train_cache().records) == 20
    assert sorted(path.name for path in data.root.parent.iterdir()) == [data.root.name, f"{data.root.name}.lock"]


def test_two_at_once_draw_one_data_set(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def draw(root: Path, *args: int) -> None:
        drawn.append(root)
        time.sleep(0.2)
        write_dsb_layout(root, *args)  # type: ignore[arg-type]

    monkeypatch.setattr("datamodules.synthetic.write_dsb_layout", draw)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(records, [tmp_path, tmp_path])) == [records(prepared)] * 2
    assert len(drawn) == 1


def test_images_that_are_too_small_are_refused(tmp_path: Path) -> None:
    with pytest.raises((DataError, ValueError), match="at least 32 px"):
        module(tmp_path, size=(16, 64)).prepare_data()
    assert not module(tmp_path, size=(16, 64)).root.exists()


def test_the_run_draws_by_its_own_seed_and_not_by_that_of_the_images(prepared: Path) -> None:
    orders = []
    for seed in (1, 1, 2):
        lightning.seed_everything(seed, verbose=False)
        data = module(prepared, batch_size=1)
        data.setup("fit")
        orders.append([batch.names for batch in data.train_dataloader()])
    assert orders[0] == orders[1] != orders[2]
