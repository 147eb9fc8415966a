"""A user's own images and label images: every format, every mix, every mistake."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch

from datamodules.folder import FolderDataModule
from datamodules.sample import Batch
from datamodules.transforms import PercentileNormalize

RNG = np.random.default_rng(0)
LABELS = np.zeros((20, 30), np.uint16)
LABELS[2:8, 2:8], LABELS[2:8, 8:14], LABELS[12:18, 20:29] = 7, 3, 500

RAMP = np.arange(600).reshape(20, 30)
GREY8, GREY16, FLOAT = (RAMP % 256).astype(np.uint8), (RAMP * 109).astype(np.uint16), (RAMP / 599).astype(np.float32)
RGB8 = np.dstack([GREY8, GREY8[::-1], GREY8[:, ::-1]])
RGB16 = np.dstack([GREY16, GREY16[::-1], GREY16[:, ::-1]])


def png(path: Path, pixels: np.ndarray) -> None:
    order = {2: slice(None), 3: (2, 1, 0), 4: (2, 1, 0, 3)}[pixels.shape[2] if pixels.ndim == 3 else 2]
    pixels = pixels if pixels.ndim == 2 else pixels[..., order]
    path.write_bytes(cv2.imencode(".png", np.ascontiguousarray(pixels))[1].tobytes())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten pairs: PNG and TIFF, mixed."""
    for folder in ("images", "labels"):
        (tmp_path / "own" / folder).mkdir(parents=True)
    for i in range(10):
        pixels = RNG.integers(0, 256, (20, 30 + i), np.uint8)
        labels = np.pad(LABELS, ((0, 0), (0, i)))
        if i % 2:
            png(tmp_path / "own" / "images" / f"{i}.png", pixels)
            tifffile.imwrite(tmp_path / "own" / "labels" / f"{i}.tif", labels)
        else:
            tifffile.imwrite(tmp_path / "own" / "images" / f"{i}.tiff", pixels)
            png(tmp_path / "own" / "labels" / f"{i}.png", labels)
    return tmp_path / "own"


def module(root: Path, **kwargs: object) -> FolderDataModule:
    arguments: dict[str, object] = {"num_workers": 0, "batch_size": 1, **kwargs}
    return FolderDataModule(root=root, **arguments)  # type: ignore[arg-type]


def names(data: FolderDataModule, part: str) -> list[str]:
    return [item.name for item in data.items[part]]


FORMATS: dict[str, tuple[str, np.ndarray, dict[str, object]]] = {
    "grey 8": (".png", GREY8, {}),
    "grey 16": (".png", GREY16, {}),
    "rgb 8": (".png", RGB8, {}),
    "rgb 16": (".png", RGB16, {}),
    "rgba 8": (".png", np.dstack([RGB8, GREY8]), {}),
    "tiff 8": (".tif", GREY8, {}),
    "tiff 16": (".tif", GREY16, {"compression": "zlib"}),
    "tiff float": (".tif", FLOAT, {}),
    "tiff rgb": (".tiff", RGB8, {"photometric": "rgb"}),
    "tiff rgb 16": (".tif", RGB16, {"photometric": "rgb"}),
    "tiff rgb float": (".tif", RGB16.astype(np.float32) / 65535, {"photometric": "rgb"}),
    "tiff rgba": (".tif", np.dstack([RGB8, GREY8]), {"photometric": "rgb", "extrasamples": [2]}),
    "tiff planar": (".tif", np.moveaxis(RGB16, 2, 0), {"photometric": "rgb", "planarconfig": "separate"}),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_format_arrives_exactly(name: str, channels: int, root: Path) -> None:
    suffix, pixels, options = FORMATS[name]
    for path in (root / "images").iterdir():
        path.unlink()
        target = path.with_suffix(suffix)
        labels = root / "labels" / f"{path.stem}.png"
        labels.with_suffix(".tif").unlink(missing_ok=True)
        png(labels, LABELS)
        if suffix == ".png":
            png(target, pixels)
        else:
            tifffile.imwrite(target, pixels, **options)
    data = module(root, channels=channels, test_root=root)
    data.setup("test")
    batch: Batch = next(iter(data.test_dataloader()))
    expected = np.moveaxis(pixels, 0, -1) if "planar" in name else pixels
    expected = expected[..., :3].astype(np.float64) if expected.ndim == 3 else expected.astype(np.float64)
    expected /= np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1
    if expected.ndim == 3 and channels == 1:
        expected = expected @ [0.299, 0.587, 0.114]
    expected = np.dstack([expected] * channels) if expected.ndim == 2 else expected
    assert batch.image.shape == (1, channels, 20, 30)
    assert np.allclose(batch.image[0].numpy(), expected.transpose(2, 0, 1), atol=1e-6)
    assert batch.labels is not None and batch.labels[0, 3, 3] == 2 and batch.labels[0, 3, 10] == 1
    assert batch.labels.unique().tolist() == [0, 1, 2, 3]


def test_the_parts_are_complete_disjoint_and_seeded(root: Path) -> None:
    data = module(root, val_fraction=0.3, test_fraction=0.2)
    data.setup("fit")
    parts = {part: names(data, part) for part in ("train", "val", "test")}
    assert {part: len(part_names) for part, part_names in parts.items()} == {"train": 5, "val": 3, "test": 2}
    assert sorted(name for part_names in parts.values() for name in part_names) == [str(i) for i in range(10)]
    data.setup("test")
    assert names(data, "test") == parts["test"]
    others = [module(root, val_fraction=0.3, test_fraction=0.2, split_seed=seed) for seed in (42, 1, 2)]
    for other in others:
        other.setup("fit")
    assert names(others[0], "val") == parts["val"]
    assert any(names(other, "val") != parts["val"] for other in others[1:])


def test_identical_files_stay_on_one_side(root: Path) -> None:
    for i in range(10):
        for folder in ("images", "labels"):
            (path,) = (root / folder).glob(f"{i}.*")
            shutil.copy(path, path.with_stem(f"copy-of-{i}"))
    for seed in range(5):
        data = module(root, split_seed=seed, val_fraction=0.3, test_fraction=0.2)
        data.setup("fit")
        for part in ("train", "val", "test"):
            originals = {name for name in names(data, part) if not name.startswith("copy")}
            assert {name.removeprefix("copy-of-") for name in names(data, part)} == originals


def test_a_test_folder_and_a_prediction_folder_of_their_own(root: Path, tmp_path: Path) -> None:
    other = shutil.copytree(root, tmp_path / "other")
    data = module(root, test_root=other, predict_root=other / "images")
    for stage in ("test", "predict", "fit"):
        data.setup(stage)
    assert len(data.items["train"]) + len(data.items["val"]) == 10, "no share is held out for a test"
    assert len(data.items["test"]) == len(data.items["predict"]) == 10
    batch: Batch = next(iter(data.predict_dataloader()))
    assert batch.labels is None and batch.sources[0] is not None and batch.truths == [None]
    shutil.rmtree(root / "labels")
    bare = module(root)
    bare.setup("predict")
    assert len(bare.items["predict"]) == 10, "prediction needs no labels"


def test_subfolders_dots_and_hidden_files(root: Path) -> None:
    for folder in ("images", "labels"):
        (root / folder / "deep er" / "ä").mkdir(parents=True)
        png(root / folder / "deep er" / "ä" / "x.v2 (1).png", GREY8 if folder == "images" else LABELS)
        (root / folder / ".hidden.png").write_bytes(b"")
        (root / folder / "Thumbs.db").write_bytes(b"")
        (root / folder / "0.json").write_text("{}")
        (root / folder / "folder.tif").mkdir()
    data = module(root)
    data.setup("fit")
    assert "deep er/ä/x.v2 (1)" in names(data, "train") + names(data, "val") + names(data, "test")
    assert sum(map(len, data.items.values())) == 11
    for loader in (data.train_dataloader(), data.val_dataloader()):
        assert all(batch.labels.max() == 3 for batch in loader)


def test_images_of_mixed_sizes_share_a_batch_once_resized(root: Path, refused: Callable) -> None:
    data = module(root, batch_size=4)
    data.setup("fit")
    with refused("different sizes", "image_size", "crop", "batch size of 1"):
        list(data.train_dataloader())
    resized = module(root, batch_size=4, image_size=16)
    resized.setup("fit")
    assert next(iter(resized.train_dataloader())).image.shape == (4, 3, 16, 16)


# --- mistakes


def test_a_folder_without_pairs_is_refused(root: Path, tmp_path: Path, refused: Callable) -> None:
    for missing in (tmp_path / "none", tmp_path):
        with refused(missing, "images/ and labels/"):
            module(missing).setup("fit")
    (root / "labels" / "4.png").unlink()
    with refused(root / "images" / "4.tiff", "no label image", root / "labels" / "4", ".tif or .png"):
        module(root).setup("fit")
    shutil.rmtree(root / "labels")
    with refused(root, "images/ and labels/", "make both folders"):
        module(root).setup("fit")
    with refused(tmp_path / "none", "no folder"):
        module(root, predict_root=tmp_path / "none").setup("predict")
    (tmp_path / "empty" / "images").mkdir(parents=True)
    with refused(tmp_path / "empty" / "images", "holds no image", ".tif"):
        module(root, predict_root=tmp_path / "empty").setup("predict")


@pytest.mark.parametrize("folder", ["images", "labels"])
def test_two_files_of_one_name_are_refused(folder: str, root: Path, refused: Callable) -> None:
    png(root / folder / "0.bmp", LABELS.astype(np.uint8))
    with refused(root / folder, "two files named 0", "rename or remove"):
        module(root).setup("fit")


def test_a_jpeg_is_no_label_image(root: Path, refused: Callable) -> None:
    (root / "labels" / "1.tif").rename(root / "labels" / "1.jpg")
    with refused("1.png has no label image", ".tif or .png"):
        module(root).setup("fit")


def test_too_few_images_are_refused(root: Path, refused: Callable) -> None:
    for path in [*root.glob("images/*"), *root.glob("labels/*")]:
        if path.stem != "0":
            path.unlink()
    with refused(root, "1 images", "too few", "--data.init_args.val_fraction"):
        module(root).setup("fit")


def test_a_test_without_test_images_is_refused(root: Path, refused: Callable) -> None:
    data = module(root, test_fraction=0.0)
    data.setup("test")
    with refused("'test'", "fractions"):
        data.test_dataloader()


def overwrite(root: Path, image: np.ndarray, labels: np.ndarray) -> FolderDataModule:
    for i in range(10):
        for folder in ("images", "labels"):
            (path,) = (root / folder).glob(f"{i}.*")
            path.unlink()
        tifffile.imwrite(root / "images" / f"{i}.tif", image)
        tifffile.imwrite(root / "labels" / f"{i}.tif", labels)
    data = module(root, test_root=root)
    data.setup("test")
    return data


@pytest.mark.parametrize(
    ("image", "labels", "sentence"),
    [
        (GREY8, LABELS[:10], ("0.tif:", "10 x 30 px", "20 x 30", "one size")),
        (FLOAT * 2, LABELS, ("0:", "outside [0, 1]", "PercentileNormalize")),
        (FLOAT * np.float32(np.nan), LABELS, ("0:", "not finite", "repair or remove")),
        (GREY8, (LABELS > 0).astype(np.uint8) * 255, ("labels/0.tif", "binary mask", "2 separate")),
        (GREY8, LABELS.astype(np.float32) / 7, ("labels/0.tif", "no object numbers")),
        (GREY8, LABELS.astype(np.int16) - 1, ("labels/0.tif", "no object numbers")),
        (GREY8, RGB8, ("labels/0.tif", "colour image")),
        (np.dstack([GREY8] * 5), LABELS, ("images/0.tif", "(20, 30, 5)", "each plane")),
    ],
)
def test_bad_images_and_labels_are_refused(
    image: np.ndarray, labels: np.ndarray, sentence: tuple[str, ...], root: Path, refused: Callable
) -> None:
    data = overwrite(root, image, labels)
    with refused(*sentence):
        next(iter(data.test_dataloader()))


def test_floats_of_any_range_are_fine_with_percentiles(root: Path) -> None:
    data = overwrite(root, FLOAT * 5000 - 700, LABELS)
    data.preparation.normalization = PercentileNormalize()
    image = next(iter(data.test_dataloader())).image
    assert image.min() == 0 and image.max() == 1 and torch.isfinite(image).all()
