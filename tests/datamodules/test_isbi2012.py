"""ISBI 2012: contiguous blocks, cells that membranes part, and every bad stack refused in one sentence."""

import functools
import http.server
import json
import pickle
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import albumentations
import lightning
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from isbi_stacks import HEIGHT, SECTIONS, STACKS, TEST_VOLUME, VOLUME, WIDTH, module, names, pack, train, write
from scipy import ndimage

from datamodules.isbi2012 import ARCHIVE, ISBI2012DataModule, find_cells, hold_out
from datamodules.reading import pixel_digest
from datamodules.section_noise import Misalignment, MissingSection


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The stacks without the annotation of the test sections; may be changed."""
    return write(tmp_path / "root")


# --- where the stacks lie


@pytest.mark.parametrize(
    "folders",
    [None, [""], ["ISBI-2012-challenge/"], ["a/b/"], ["__MACOSX/", ""], ["ISBI/", "ISBI/__MACOSX/"]],
    ids=["files", "archive", "subfolder", "deeper", "twins first", "twins within"],
)
def test_stacks_are_found_as_files_and_within_the_archive(
    folders: list[str] | None, root: Path, tmp_path: Path
) -> None:
    place = root if folders is None else pack(root, tmp_path / "packed" / ARCHIVE, *folders)
    data = module(place)
    for stage in ("fit", "test", "predict"):
        data.setup(stage)
    assert {part: len(items) for part, items in data.items.items()} == {"train": 4, "val": 2, "test": 2, "predict": 8}
    read = {item.name: item.read() for part in ("train", "val", "test") for item in data.items[part]}
    for k, name in enumerate(train(*range(SECTIONS))):
        pixels, labels = read[name]
        assert pixels.dtype == np.uint8 and np.array_equal(pixels, VOLUME[k])
        assert np.array_equal(labels > 0, STACKS["train-labels.tif"][k] > 0)


def test_a_file_counts_before_the_archive(root: Path) -> None:
    pack(write(root.parent / "other", train_volume=TEST_VOLUME), root / ARCHIVE, "")
    (root / "test-volume.tif").unlink()
    data = module(root)
    data.setup("fit")
    data.setup("predict")
    assert np.array_equal(data.items["train"][0].read()[0], VOLUME[0])
    assert np.array_equal(data.items["predict"][0].read()[0], TEST_VOLUME[0]), "what is missing comes from the archive"


@pytest.fixture
def server(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address that serves the archive."""
    folder = pack(root, root.parent / "served" / ARCHIVE, "ISBI-2012-challenge/")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as listener:
        threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield f"http://127.0.0.1:{listener.server_address[1]}/"
        listener.shutdown()


def test_missing_stacks_are_downloaded_once(server: str, tmp_path: Path) -> None:
    place = tmp_path / "not" / "yet"
    data = module(place, download=True, address=server)
    data.prepare_data()
    assert {path.name for path in place.iterdir() if path.suffix != ".lock"} == {ARCHIVE}
    data.setup("fit")
    assert np.array_equal(data.items["train"][0].read()[0], VOLUME[0])
    module(place, download=True, address="http://127.0.0.1:1/").prepare_data()


def test_stacks_that_are_there_are_not_downloaded(root: Path) -> None:
    module(root, download=True, address="http://127.0.0.1:1/").prepare_data()
    assert not (root / ARCHIVE).exists()


def test_nothing_is_downloaded_unasked(server: str, tmp_path: Path, refused: Callable) -> None:
    data = module(tmp_path / "none", address=server)
    data.prepare_data()
    assert not (tmp_path / "none").exists()
    with refused("no train-volume.tif", tmp_path / "none", ARCHIVE, "init_args.root FOLDER", "init_args.download true"):
        data.setup("fit")


def test_what_the_server_lacks_is_named(server: str, tmp_path: Path, refused: Callable) -> None:
    with refused(f"{server}elsewhere/{ARCHIVE}", "404", "by hand"):
        module(tmp_path / "none", download=True, address=f"{server}elsewhere").prepare_data()


# --- cells


def test_cells_are_parted_by_membranes_and_a_membrane_is_0(root: Path) -> None:
    data = module(root)
    data.setup("fit")
    for item, k in zip(data.items["train"], range(4), strict=True):
        labels = item.read()[1]
        assert labels is not None and labels.dtype == np.int32
        line = 5 + k
        assert (labels[:, line] == 0).all() and (labels[12, line:] == 0).all()
        parts = [labels[:, :line], labels[:12, line + 1 :], labels[13:, line + 1 :]]
        assert [np.unique(part).tolist() for part in parts] == [[1], [2], [3]]


@given(st.integers(0, 2**32), st.floats(0.3, 0.9))
def test_cells_are_the_4_connected_components(seed: int, share: float) -> None:
    white = np.random.default_rng(seed).random((12, 17)) < share
    cells = find_cells(np.where(white, 255, 0))
    # SciPy's default joins neighbours of an edge, not of a corner.
    expected, count = ndimage.label(white)
    assert cells.max() == count and np.array_equal(cells > 0, white)
    assert len(set(zip(cells.ravel().tolist(), expected.ravel().tolist(), strict=True))) == count + (not white.all())


def test_diagonal_neighbours_stay_apart() -> None:
    assert find_cells(np.eye(4) * 255).max() == 4


# --- blocks


@given(st.data())
def test_every_section_is_tested_once_and_validated_once(data: st.DataObject) -> None:
    count = data.draw(st.integers(3, 70))
    blocks = data.draw(st.integers(3, count))
    sections = [f"s{number}" for number in range(count)]
    tested: list[str] = []
    validated: list[str] = []
    for fold in range(blocks):
        parts = hold_out(sections, blocks, fold)
        assert sorted(name for names in parts.values() for name in names) == sorted(sections), "complete and disjoint"
        for part in ("val", "test"):
            start = sections.index(parts[part][0])
            assert parts[part] == sections[start : start + len(parts[part])], "contiguous"
            assert len(parts[part]) in (count // blocks, -(-count // blocks)), "sizes differ by at most one"
        assert parts["train"] == [name for name in sections if name in parts["train"]], "in order"
        before = sections[sections.index(parts["test"][0]) - 1]
        assert parts["val"][-1] == before, "the block before the tested one, or the last one"
        tested += parts["test"]
        validated += parts["val"]
    assert tested == sections and sorted(validated) == sorted(sections)


def test_the_published_30_sections_give_6_blocks_of_5() -> None:
    parts = hold_out(train(*range(30)), blocks=6, fold=5)
    assert parts == {"train": train(*range(20)), "val": train(*range(20, 25)), "test": train(*range(25, 30))}
    data = ISBI2012DataModule()
    assert (data.blocks, data.fold, data.preparation.channels) == (6, 5, 1)


@pytest.mark.parametrize(("blocks", "fold"), [(2, 0), (0, 0), (-3, 0), (4, 4), (4, -1), (3, 99)])
def test_blocks_and_folds_out_of_range_are_refused(blocks: int, fold: int) -> None:
    with pytest.raises(ValueError, match=f"^fold is {fold} of {blocks} blocks: expected 3 blocks or more, and.*\\.$"):
        module(Path("none"), blocks=blocks, fold=fold)


def test_more_blocks_than_sections_are_refused(root: Path, refused: Callable) -> None:
    with refused("8 sections", "9 blocks", "choose fewer"):
        module(root, blocks=9).setup("fit")


# --- the split manifest


def test_the_split_is_written_once_and_read_back(root: Path, tmp_path: Path) -> None:
    data = module(root, cache_dir=tmp_path / "cache", fold=0)
    data.setup("fit")
    assert (names(data, "test"), names(data, "val"), names(data, "train")) == (
        train(0, 1),
        train(6, 7),
        train(*range(2, 6)),
    )
    (path,) = (tmp_path / "cache" / "splits").iterdir()
    content = json.loads(path.read_text())
    assert (content["blocks"], content["fold"]) == (4, 0) and path.name.endswith("-blocks4-fold0.json")
    digests = {name: digest for part in content["parts"].values() for name, digest in part.items()}
    assert digests == {name: pixel_digest(VOLUME[k]) for k, name in enumerate(train(*range(SECTIONS)))}
    # What the file says counts: a section taken out of it by hand stays out.
    dropped, _ = content["parts"]["train"].popitem()
    path.write_text(json.dumps(content))
    again = module(root, cache_dir=tmp_path / "cache", fold=0)
    again.setup("fit")
    assert names(again, "train") == [name for name in names(data, "train") if name != dropped]
    other = module(root, cache_dir=tmp_path / "cache", fold=1)
    other.setup("fit")
    assert names(other, "test") == train(2, 3), "another fold, another file"
    module(root, cache_dir=tmp_path / "cache", fold=1, blocks=3).setup("fit")
    changed = write(tmp_path / "changed", train_volume=VOLUME ^ 1)
    module(changed, cache_dir=tmp_path / "cache", fold=1).setup("fit")
    assert len(list((tmp_path / "cache" / "splits").iterdir())) == 4, "other pixels, another file"


# --- stages


def test_every_stage_takes_its_sections(root: Path) -> None:
    data = module(root, batch_size=2)
    data.setup("fit")
    assert sorted(name for batch in data.train_dataloader() for name in batch.names) == train(0, 1, 2, 3)
    assert [batch.names for batch in data.val_dataloader()] == [train(4), train(5)]
    data = module(root)
    data.setup("test")
    for batch, k in zip(data.test_dataloader(), (6, 7), strict=True):
        assert batch.names == train(k) and batch.kinds == [""] and batch.sizes == [(HEIGHT, WIDTH)]
        assert torch.equal(batch.image, torch.from_numpy(VOLUME[k] / np.float32(255))[None, None])
        assert np.array_equal(batch.sources[0], VOLUME[k]) and np.unique(batch.truths[0]).tolist() == [0, 1, 2, 3]


def test_prediction_takes_the_test_volume_in_order_and_without_labels(root: Path) -> None:
    write(root, "test-labels.tif")
    (root / "train-labels.tif").unlink()
    data = module(root)
    data.setup("predict")
    batches = list(data.predict_dataloader())
    assert [batch.names[0] for batch in batches] == [f"test-volume-{k:02d}" for k in range(SECTIONS)]
    for batch, section in zip(batches, TEST_VOLUME, strict=True):
        assert np.array_equal(batch.sources[0], section) and batch.labels is None and batch.truths == [None]


def test_the_annotated_test_sections_are_tested_on_where_they_lie_there(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module(root).setup("test")
    assert capsys.readouterr().out == ""
    write(root, "test-labels.tif")
    data = module(root)
    data.setup("fit")
    assert names(data, "train") == train(0, 1, 2, 3) and capsys.readouterr().out == ""
    data.setup("test")
    said = capsys.readouterr().out
    assert "test sections" in said and f"{root} holds test-labels.tif" in said
    assert names(data, "test") == [f"test-volume-{k:02d}" for k in range(SECTIONS)]
    for k, item in enumerate(data.items["test"]):
        pixels, labels = item.read()
        assert np.array_equal(pixels, TEST_VOLUME[k]) and labels is not None
        assert (labels[:, 15 + k] == 0).all() and labels.max() == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_draws_every_section_equally_often_and_each_time_differently(workers: int, root: Path) -> None:
    lightning.seed_everything(1, verbose=False)
    noise = [albumentations.RandomBrightnessContrast(p=1), Misalignment(4, p=1), MissingSection(p=1)]
    crop = albumentations.RandomCrop(height=16, width=16)
    data = module(root, augmentations=[crop, *noise], samples_per_epoch=20, batch_size=4, num_workers=workers)
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert [batch.image.shape for batch in batches] == [(4, 1, 16, 16)] * 5
    assert Counter(name for batch in batches for name in batch.names) == dict.fromkeys(train(0, 1, 2, 3), 5)
    assert len({image.numpy().tobytes() for batch in batches for image in batch.image}) == 20


def test_one_channel_unless_three_are_asked_for(root: Path) -> None:
    for arguments, channels in (({}, 1), ({"channels": 3}, 3)):
        data = module(root, **arguments)
        data.setup("fit")
        assert next(iter(data.val_dataloader())).image.shape == (1, channels, HEIGHT, WIDTH)


def test_everything_travels_to_a_spawned_worker(root: Path) -> None:
    data = module(root, augmentations=[Misalignment(p=1), MissingSection(p=1)])
    data.setup("fit")
    loader = data.train_dataloader()
    dataset, _, _ = pickle.loads(pickle.dumps((loader.dataset, loader.worker_init_fn, loader.collate_fn)))
    assert [dataset[k].name for k in range(4)] == train(0, 1, 2, 3) and dataset[0].image.shape == (1, HEIGHT, WIDTH)
    copied = pickle.loads(pickle.dumps(data))
    assert names(copied, "val") == names(data, "val")
    # A section travels alone, not with its stack.
    assert len(pickle.dumps(data.items["val"][0])) < VOLUME.nbytes
