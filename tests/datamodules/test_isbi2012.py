"""ISBI 2012: contiguous blocks, cells that membranes part, and every bad stack refused in one sentence."""

import functools
import http.server
import json
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from isbi_stacks import HEIGHT, SECTIONS, STACKS, TEST_VOLUME, VOLUME, WIDTH, module, names, pack, train, write
from scipy import ndimage

from datamodules.augmentation.section_noise import Misalignment, MissingSection
from datamodules.isbi2012 import ARCHIVE, ISBI2012DataModule, find_cells, hold_out
from karyon.io.reading import pixel_digest


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
    data = module(place, stages="fit test predict")
    assert {part: len(items) for part, items in data.items.items()} == {"train": 4, "val": 2, "test": 2, "predict": 8}
    read = {item.name: item.read() for part in ("train", "val", "test") for item in data.items[part]}
    for k, name in enumerate(train(*range(SECTIONS))):
        pixels, labels = read[name]
        assert pixels.dtype == np.uint8 and np.array_equal(pixels, VOLUME[k])
        assert np.array_equal(labels > 0, STACKS["train-labels.tif"][k] > 0)


def test_a_file_counts_before_the_archive(root: Path) -> None:
    pack(write(root.parent / "other", train_volume=TEST_VOLUME), root / ARCHIVE, "")
    (root / "test-volume.tif").unlink()
    data = module(root, stages="fit predict")
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


def test_missing_stacks_are_downloaded_once_and_only_where_asked(
    server: str, root: Path, tmp_path: Path, refused: Callable
) -> None:
    place, nowhere = tmp_path / "not" / "yet", "http://127.0.0.1:1/"
    unasked = module(place, address=server)
    unasked.prepare_data()
    assert not place.exists()
    with refused("no train-volume.tif", place, ARCHIVE, "init_args.root FOLDER", "init_args.download true"):
        unasked.setup("fit")
    with refused(f"{server}elsewhere/{ARCHIVE}", "404", "by hand"):
        module(tmp_path / "none", download=True, address=f"{server}elsewhere").prepare_data()
    data = module(place, download=True, address=server)
    data.prepare_data()
    assert {path.name for path in place.iterdir() if path.suffix != ".lock"} == {ARCHIVE}
    data.setup("fit")
    assert np.array_equal(data.items["train"][0].read()[0], VOLUME[0])
    module(place, download=True, address=nowhere).prepare_data()
    module(root, download=True, address=nowhere).prepare_data()
    assert not (root / ARCHIVE).exists(), "stacks that are there are not downloaded"


# --- cells


def test_cells_are_parted_by_membranes_and_a_membrane_is_0(root: Path) -> None:
    data = module(root, stages="fit")
    for item, k in zip(data.items["train"], range(4), strict=True):
        labels = item.read()[1]
        assert labels.dtype == np.int32
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
    assert (data.blocks, data.fold, data.preprocessing.channels) == (6, 5, 1)


@pytest.mark.parametrize(("blocks", "fold"), [(2, 0), (0, 0), (-3, 0), (4, 4), (4, -1), (3, 99)])
def test_blocks_and_folds_out_of_range_are_refused(blocks: int, fold: int) -> None:
    with pytest.raises(ValueError, match=f"^fold is {fold} of {blocks} blocks: expected 3 blocks or more, and.*\\.$"):
        module(Path("none"), blocks=blocks, fold=fold)


def test_more_blocks_than_sections_are_refused(root: Path, refused: Callable) -> None:
    with refused("8 sections", "9 blocks", "choose fewer"):
        module(root, blocks=9).setup("fit")


# --- the split manifest


def test_the_split_is_written_once_and_read_back(root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    data = module(root, stages="fit", cache_dir=cache, fold=0)
    assert [names(data, part) for part in ("test", "val", "train")] == [train(0, 1), train(6, 7), train(2, 3, 4, 5)]
    (path,) = (cache / "splits").iterdir()
    content = json.loads(path.read_text())
    assert (content["blocks"], content["fold"]) == (4, 0) and path.name.endswith("-blocks4-fold0.json")
    digests = {name: digest for part in content["parts"].values() for name, digest in part.items()}
    assert digests == {name: pixel_digest(VOLUME[k]) for k, name in enumerate(train(*range(SECTIONS)))}
    # What the file says counts: a section taken out of it by hand stays out.
    dropped, _ = content["parts"]["train"].popitem()
    path.write_text(json.dumps(content))
    again = module(root, stages="fit", cache_dir=cache, fold=0)
    assert names(again, "train") == [name for name in names(data, "train") if name != dropped]
    # Another fold, other blocks or other pixels, another file.
    assert names(module(root, stages="fit", cache_dir=cache, fold=1), "test") == train(2, 3)
    module(root, stages="fit", cache_dir=cache, fold=1, blocks=3)
    module(write(tmp_path / "changed", train_volume=VOLUME ^ 1), stages="fit", cache_dir=cache, fold=1)
    assert len(list((cache / "splits").iterdir())) == 4


# --- stages


def test_every_stage_takes_its_sections(root: Path) -> None:
    data = module(root, batch_size=2, stages="fit")
    assert sorted(name for batch in data.train_dataloader() for name in batch.names) == train(0, 1, 2, 3)
    assert [batch.names for batch in data.val_dataloader()] == [train(4), train(5)]
    data = module(root, stages="test")
    for batch, k in zip(data.test_dataloader(), (6, 7), strict=True):
        assert batch.names == train(k) and batch.image_types == [""] and batch.sizes == [(HEIGHT, WIDTH)]
        assert torch.equal(batch.image, torch.from_numpy(VOLUME[k] / np.float32(255))[None, None])
        assert np.array_equal(batch.sources[0], VOLUME[k]) and np.unique(batch.truths[0]).tolist() == [0, 1, 2, 3]


def test_prediction_takes_the_test_volume_in_order_and_without_labels(root: Path) -> None:
    write(root, "test-labels.tif")
    (root / "train-labels.tif").unlink()
    data = module(root, stages="predict")
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
    data = module(root, stages="fit")
    assert names(data, "train") == train(0, 1, 2, 3) and capsys.readouterr().out == ""
    data.setup("test")
    said = capsys.readouterr().out
    assert "test sections" in said and f"{root} holds test-labels.tif" in said
    assert names(data, "test") == [f"test-volume-{k:02d}" for k in range(SECTIONS)]
    for k, item in enumerate(data.items["test"]):
        pixels, labels = item.read()
        assert np.array_equal(pixels, TEST_VOLUME[k])
        assert (labels[:, 15 + k] == 0).all() and labels.max() == 3


def test_everything_travels_to_a_spawned_worker(root: Path) -> None:
    data = module(root, augmentations=[Misalignment(p=1), MissingSection(p=1)], stages="fit")
    loader = data.train_dataloader()
    dataset, _, _ = pickle.loads(pickle.dumps((loader.dataset, loader.worker_init_fn, loader.collate_fn)))
    assert [dataset[k].name for k in range(4)] == train(0, 1, 2, 3) and dataset[0].image.shape == (1, HEIGHT, WIDTH)
    copied = pickle.loads(pickle.dumps(data))
    assert names(copied, "val") == names(data, "val")
    # A section travels alone, not with its stack.
    assert len(pickle.dumps(data.items["val"][0])) < VOLUME.nbytes
