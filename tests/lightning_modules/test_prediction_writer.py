"""What predict leaves behind says exactly what was predicted, whatever happens on the way."""

import csv
import errno
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from echo_model import EchoModel, loader, make_trainer, sample, scores
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from lightning import Callback
from scipy import ndimage

from karyon.errors import DataError
from karyon.io import results_folder
from karyon.io.file_names import file_stem, portable
from karyon.io.result_tables import TABLES
from karyon.labels import decode_run_lengths, encode_objects, encode_run_lengths, relabel
from karyon.pictures.overlay import side_by_side
from lightning_modules.callbacks.prediction_writer import PredictionWriter


def example(seed, size=(60, 80)):
    """A label image of irregular objects, some of which touch."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.random(size), 2)
    return relabel(ndimage.label(noise > 0.5)[0] * (1 + (np.arange(size[1]) // 20) * 1000))


def predict(folder, samples, *callbacks, **kwargs):
    trainer = make_trainer(folder, [PredictionWriter(), *callbacks])
    trainer.predict(EchoModel(), loader(samples, **kwargs), return_predictions=False)


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_files_and_tables_hold_the_prediction(tmp_path):
    source = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    preds = {"first": example(1), "second": example(2), "nothing": np.zeros((60, 80), np.int64)}
    predict(tmp_path, [sample(name, pred, source) for name, pred in preds.items()], batch_size=2)
    decoded = {name: np.zeros(source[..., 0].size, np.int64) for name in preds}
    for row in table(tmp_path / "run_lengths.csv"):
        if row["ImageId"] != "nothing":
            pixels = decode_run_lengths(row["EncodedPixels"], (60, 80))
            decoded[row["ImageId"]][pixels] = decoded[row["ImageId"]].max() + 1
    for name, pred in preds.items():
        labels = tifffile.imread(tmp_path / "labels" / f"{name}.tif")
        assert labels.dtype == np.uint16 and (labels == pred).all()
        picture = cv2.imread(str(tmp_path / "overlays" / f"{name}.png"))[..., ::-1]
        assert (picture == side_by_side(source, pred)).all()
        assert (decoded[name].reshape(pred.shape, order="F") == pred).all()
    counts = [(row["image"], int(row["objects"])) for row in table(tmp_path / "counts.csv")]
    assert counts == [(name, pred.max()) for name, pred in preds.items()]
    assert (tmp_path / "run_lengths.csv").read_text().endswith("\nnothing,\n")
    assert "nothing" not in {row["image"] for row in table(tmp_path / "objects.csv")}


@given(arrays(np.int64, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 4)))
def test_run_lengths_are_the_longest_runs_of_each_object(labels):
    ids = [k for k in range(1, 5) if (labels == k).any()]
    codes = encode_objects(labels)
    assert codes == [encode_run_lengths(labels == k) for k in ids]
    for k, code in zip(ids, codes, strict=True):
        positions = decode_run_lengths(code, labels.shape)
        assert positions.tolist() == np.flatnonzero(labels.ravel(order="F") == k).tolist()
        assert len(code.split()) // 2 == np.count_nonzero(np.diff(positions, prepend=-2) > 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_objects_are_described_as_scipy_and_the_eigenvalues_of_their_covariance_say(tmp_path, dtype, channels):
    pred = example(3)
    source = (np.random.default_rng(4).random((60, 80, *channels)) * 250).astype(dtype)
    predict(tmp_path, [sample("x", pred, source)])
    rows = table(tmp_path / "objects.csv")
    ids = range(1, pred.max() + 1)
    assert [(row["image"], int(row["id"])) for row in rows] == [("x", k) for k in ids]
    grey = source.reshape(60, 80, -1).astype(float).mean(axis=-1)
    for row, k, score in zip(rows, ids, scores(len(ids)).tolist(), strict=True):
        y, x = ndimage.find_objects(pred)[k - 1]
        assert [int(row[key]) for key in ("x0", "y0", "x1", "y1")] == [x.start, y.start, x.stop, y.stop]
        assert int(row["area"]) == np.count_nonzero(pred == k)
        centroid = ndimage.center_of_mass(pred == k)
        assert (float(row["centroid_y"]), float(row["centroid_x"])) == pytest.approx(centroid, abs=0.006)
        covariance = np.cov(np.nonzero(pred == k)) if np.count_nonzero(pred == k) > 1 else np.zeros((2, 2))
        small, large = np.linalg.eigvalsh(covariance)
        assert float(row["eccentricity"]) == pytest.approx(np.sqrt(1 - small / large) if large else 0, abs=1e-4)
        assert float(row["mean_intensity"]) == pytest.approx(ndimage.mean(grey, pred, k), rel=1e-5)
        assert float(row["score"]) == pytest.approx(score, abs=1e-4)


def test_more_objects_than_16_bits_can_tell_apart_are_written_with_32(tmp_path, monkeypatch):
    # The description of so many objects takes seconds and is tested elsewhere.
    monkeypatch.setattr(results_folder, "object_rows", lambda prediction, source: [])
    most = np.arange(65536).reshape(256, 256)
    more = np.arange(66560).reshape(260, 256)
    predict(tmp_path, [sample("most", most), sample("more", more)])
    for name, pred, dtype in (("most", most, np.uint16), ("more", more, np.uint32)):
        labels = tifffile.imread(tmp_path / "labels" / f"{name}.tif")
        assert labels.dtype == dtype and (labels == pred).all()
    assert len(table(tmp_path / "run_lengths.csv")) == 65535 + 66559


def test_names_that_are_no_file_names(tmp_path):
    names = ["plate 1/well", "plate 1%2Fwell", "../outside", "..", 'a"b,c', "中" * 100, "中" * 99 + "文"]
    predict(tmp_path, [sample(name, np.full((4, 4), 1)) for name in names])
    for image_type in ("labels", "overlays"):
        assert len([path for path in (tmp_path / image_type).iterdir() if path.is_file()]) == len(names)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("counts.csv", "labels", "objects.csv", "overlays", "run_lengths.csv")
    ]
    for file, column in (("counts.csv", "image"), ("objects.csv", "image"), ("run_lengths.csv", "ImageId")):
        assert [row[column] for row in table(tmp_path / file)] == names


NAMES = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("%/2F.\\:ab"), max_size=300)


@given(NAMES, NAMES)
def test_file_stems_are_single_visible_short_and_distinct(first, second):
    stem = file_stem(first)
    path = Path("folder", f"0.123-{stem}.tif")
    assert path.parent == Path("folder") and not stem.startswith(".") and len(path.name.encode()) <= 255
    assert (file_stem(first) == file_stem(second)) == (first == second)


def windows_refuses(name):
    """What Microsoft's page on naming files says."""
    device = name.partition(".")[0].rstrip(" ").upper()
    numbered = {f"{port}{sign}" for port in ("COM", "LPT") for sign in "0123456789\xb9\xb2\xb3"}
    signs = set('<>:"/\\|?*') | set(map(chr, range(32)))
    return bool(signs & set(name)) or name[-1:] in (".", " ") or device in {"CON", "PRN", "AUX", "NUL", *numbered}


DEVICES = st.sampled_from(["con", "AUX", "Nul", "prn", "COM1", "lpt\xb2", "com10", "cona"])


@given(NAMES | st.builds(str.__add__, DEVICES, st.sampled_from(["", ".", " ", ".tif", " .x", "-1"])))
def test_names_that_windows_cannot_have(name):
    for stem in (file_stem(name), *map(portable, name.split("/"))):
        assert not windows_refuses(f"{stem}.tif")
        # As the name of a folder, too.
        assert not windows_refuses(stem)


@given(NAMES, NAMES)
def test_portable_names_are_distinct(first, second):
    assert (portable(first) == portable(second)) == (first == second)
    assert file_stem("aux.tif") == portable("aux.tif") == "%61ux.tif" and portable("nuclei 3.5%") == "nuclei 3.5%"


class Watch(Callback):
    """Notes what the tables hold after each batch, and what then happens is for the test to say."""

    def __init__(self, folder, then=None):
        self.folder, self.then, self.seen = folder, then, []

    def on_predict_batch_end(self, *args):
        self.seen.append([len(table(self.folder / f"{name}.csv")) for name in TABLES])
        if self.then and len(self.seen) == 2:
            raise self.then


def test_rows_are_on_disk_after_each_batch(tmp_path):
    watch = Watch(tmp_path)
    predict(tmp_path, [sample(name, np.eye(3, dtype=np.int64)) for name in "abcd"], watch, batch_size=2)
    assert watch.seen == [[2, 2, 2], [4, 4, 4]]


def test_an_interrupt_keeps_what_is_there_and_a_second_run_replaces_it(tmp_path):
    samples = [sample(name, np.eye(3, dtype=np.int64)) for name in "abcd"]
    (tmp_path / "counts.csv.part3").write_text("image,objects,confidence,note\nz,1,,\n")
    with pytest.raises(SystemExit):
        predict(tmp_path, samples, Watch(tmp_path, KeyboardInterrupt()))
    assert [row["image"] for row in table(tmp_path / "counts.csv")] == ["a", "b"]
    assert [row["image"] for row in table(tmp_path / "objects.csv")] == ["a", "b"]
    predict(tmp_path, samples[1:])
    for name in TABLES:
        assert [next(iter(row.values())) for row in table(tmp_path / f"{name}.csv")] == ["b", "c", "d"]
    assert not list(tmp_path.glob("*.part*"))


def test_what_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "labels").write_text("a file is in the way")
    with pytest.raises(DataError, match=r"labels cannot be written \(File exists\)"):
        predict(tmp_path, [sample("x", np.eye(3, dtype=np.int64))])
    (tmp_path / "labels").unlink()

    real = Path.open

    def full(path, mode="r", *args, **options):
        if "w" in mode and ".tif" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, mode, *args, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DataError, match=r"x\.tif\S* cannot be written \(No space left on device\): free space, .*\.$"):
        predict(tmp_path, [sample("x", np.eye(3, dtype=np.int64))])


class OwnShare(EchoModel):
    """Brings its data, of which two processes share the third image."""

    def predict_dataloader(self):
        names = ["abc", "cd"][self.global_rank]
        # One object whose run lengths are longer than a CSV reader takes by default.
        comb = np.tile(np.arange(400) % 2, (400, 1)).T if names == "cd" else np.eye(3, dtype=np.int64)
        return loader([sample(name, comb) for name in names])


@pytest.mark.slow
def test_two_processes_list_each_image_once(tmp_path):
    trainer = make_trainer(tmp_path, PredictionWriter(), devices=2, strategy="ddp_spawn", use_distributed_sampler=False)
    trainer.predict(OwnShare(), return_predictions=False)
    for name in TABLES:
        csv.field_size_limit(10**7)
        assert [next(iter(row.values())) for row in table(tmp_path / f"{name}.csv")] == ["a", "b", "c", "d"]
    assert len(table(tmp_path / "run_lengths.csv")[3]["EncodedPixels"]) > 131072
    assert sorted(path.stem for path in (tmp_path / "labels").iterdir()) == ["a", "b", "c", "d"]
    assert not list(tmp_path.glob("*.part*"))
