"""A user's own images and label images: every format, every mix, every mistake."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations
import cv2
import numpy as np
import pytest
import tifffile
import torch

from datamodules.folder import FolderDataModule
from karyon.batch import Batch, whole_annotation
from karyon.planes import PixelSize
from karyon.preprocessing import PercentileNormalize

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


def module(root: Path, stages: str = "", **kwargs: Any) -> FolderDataModule:
    """A data module, set up for some stages."""
    data = FolderDataModule(root=root, **{"num_workers": 0, "batch_size": 1, **kwargs})
    for stage in stages.split():
        data.setup(stage)
    return data


def names(data: FolderDataModule, part: str) -> list[str]:
    return [item.name for item in data.items[part]]


FORMATS: list[tuple[str, np.ndarray, dict[str, object]]] = [
    (".png", GREY8, {}),
    (".png", GREY16, {}),
    (".png", RGB8, {}),
    (".png", RGB16, {}),
    (".png", np.dstack([RGB8, GREY8]), {}),
    (".tif", GREY16, {"compression": "zlib"}),
    (".tif", FLOAT, {}),
    (".tif", RGB16, {"photometric": "rgb"}),
    (".tif", RGB16.astype(np.float32) / 65535, {"photometric": "rgb"}),
    (".tif", np.dstack([RGB8, GREY8]), {"photometric": "rgb", "extrasamples": [2]}),
    (".tif", np.moveaxis(RGB16, 2, 0), {"photometric": "rgb", "planarconfig": "separate"}),
]


@pytest.mark.parametrize("channels", [1, 3])
def test_every_format_arrives_exactly(channels: int, tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for k, (suffix, pixels, options) in enumerate(FORMATS):
        png(tmp_path / "labels" / f"{k:02d}.png", LABELS)
        path = tmp_path / "images" / f"{k:02d}{suffix}"
        png(path, pixels) if suffix == ".png" else tifffile.imwrite(path, pixels, **options)
    data = module(tmp_path, channels=channels, test_root=tmp_path, stages="test")
    for (_, pixels, options), batch in zip(FORMATS, data.test_dataloader(), strict=True):
        expected = (np.moveaxis(pixels, 0, -1) if "planarconfig" in options else pixels).astype(np.float64)
        expected = np.dstack([expected] * 3) if expected.ndim == 2 else expected[..., :3]
        expected /= np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1
        expected = expected if channels == 3 else (expected @ [0.299, 0.587, 0.114])[..., None]
        assert batch.image.shape == (1, channels, 20, 30)
        assert np.allclose(batch.image[0].numpy(), expected.transpose(2, 0, 1), atol=1e-6)
        assert batch.labels[0, 3, 3] == 2 and batch.labels[0, 3, 10] == 1
        assert batch.labels.unique().tolist() == [0, 1, 2, 3]


def test_the_parts_are_complete_disjoint_and_seeded(root: Path) -> None:
    data = module(root, val_fraction=0.3, test_fraction=0.2, stages="fit")
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
        data = module(root, split_seed=seed, val_fraction=0.3, test_fraction=0.2, stages="fit")
        for part in ("train", "val", "test"):
            originals = {name for name in names(data, part) if not name.startswith("copy")}
            assert {name.removeprefix("copy-of-") for name in names(data, part)} == originals


def test_a_test_folder_and_a_prediction_folder_of_their_own(root: Path, tmp_path: Path) -> None:
    other = shutil.copytree(root, tmp_path / "other")
    data = module(root, test_root=other, predict_root=other / "images", stages="test predict fit")
    assert len(data.items["train"]) + len(data.items["val"]) == 10, "no share is held out for a test"
    assert len(data.items["test"]) == len(data.items["predict"]) == 10
    batch: Batch = next(iter(data.predict_dataloader()))
    assert batch.labels is None and batch.sources[0] is not None and batch.truths == [None]
    tifffile.imwrite(other / "images" / "0.tiff", GREY8, resolution=(4e4, 2e4), resolutionunit="CENTIMETER")
    sizes = {batch.names[0]: batch.pixel_sizes[0] for batch in data.predict_dataloader()}
    assert sizes.pop("0") == PixelSize(0.25, 0.5) and set(sizes.values()) == {None}
    shutil.rmtree(root / "labels")
    bare = module(root, stages="predict")
    assert len(bare.items["predict"]) == 10, "prediction needs no labels"


def test_what_is_passed_over_is_said_once(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    others = shutil.copytree(root / "images", tmp_path / "others")
    (root / "images" / "b.vsi").touch()
    for name in ("c.oib", "notes.txt", ".hidden"):
        (others / name).touch()
    data = FolderDataModule(root, predict_root=others)
    with caplog.at_level("INFO", "lightning.pytorch.utilities.rank_zero"):
        for stage in ("fit", "validate", "predict", "predict"):
            data.setup(stage)
    said = [line for line in caplog.messages if "Passed over" in line]
    assert len(said) == 2
    assert said[0].startswith(f"{root}: Passed over: 1 .vsi, which Karyon cannot read: export OME-TIFF")
    assert said[1].startswith(f"{others}: Passed over: 1 .oib, which") and "; 1 .txt, which Karyon does not" in said[1]


def test_subfolders_dots_and_hidden_files(root: Path) -> None:
    for folder in ("images", "labels"):
        (root / folder / "deep er" / "ä").mkdir(parents=True)
        png(root / folder / "deep er" / "ä" / "x.v2 (1).png", GREY8 if folder == "images" else LABELS)
        (root / folder / ".hidden.png").write_bytes(b"")
        (root / folder / "Thumbs.db").write_bytes(b"")
        (root / folder / "0.json").write_text("{}")
        (root / folder / "folder.tif").mkdir()
    data = module(root, stages="fit")
    assert "deep er/ä/x.v2 (1)" in names(data, "train") + names(data, "val") + names(data, "test")
    assert sum(map(len, data.items.values())) == 11
    for loader in (data.train_dataloader(), data.val_dataloader()):
        assert all(batch.labels.max() == 3 for batch in loader)


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


def test_too_few_images_and_a_jpeg_of_labels_are_refused(root: Path, refused: Callable) -> None:
    data = module(root, test_fraction=0.0, stages="test")
    with refused("'test'", "fractions"):
        data.test_dataloader()
    (root / "labels" / "1.tif").rename(root / "labels" / "1.jpg")
    with refused("1.png has no label image", ".tif or .png"):
        module(root).setup("fit")
    for path in [*root.glob("images/*"), *root.glob("labels/*")]:
        if path.stem != "0":
            path.unlink()
    with refused(root, "1 image", "too few", "--data.init_args.val_fraction"):
        module(root).setup("fit")


@pytest.mark.parametrize(
    ("image", "labels", "sentence"),
    [
        (GREY8, LABELS[:10], ("0.tif:", "10 x 30 px", "20 x 30", "one size")),
        (FLOAT * 2, LABELS, ("0:", "outside [0, 1]", "PercentileNormalize")),
        (GREY8, (LABELS > 0).astype(np.uint8) * 255, ("labels/0.tif", "binary mask", "2 separate")),
        (np.stack([GREY8] * 5), LABELS, ("images/0.tif", "holds 5 images", "save each as a file")),
    ],
)
def test_bad_images_and_labels_are_refused(
    image: np.ndarray, labels: np.ndarray, sentence: tuple[str, ...], tmp_path: Path, refused: Callable
) -> None:
    for folder, pixels in (("images", image), ("labels", labels)):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "0.tif", pixels)
    data = module(tmp_path, test_root=tmp_path, stages="test")
    with refused(*sentence):
        next(iter(data.test_dataloader()))


def test_floats_of_any_range_are_fine_with_percentiles(root: Path) -> None:
    for path in (root / "images").iterdir():
        path.unlink()
        tifffile.imwrite(path.with_suffix(".tif"), np.pad(FLOAT * 5000 - 700, ((0, 0), (0, int(path.stem)))))
    data = module(root, test_root=root, normalization=PercentileNormalize(), stages="test")
    image = next(iter(data.test_dataloader())).image
    assert image.min() == 0 and image.max() == 1 and torch.isfinite(image).all()


def test_what_is_not_annotated_stays_so(root: Path, refused: Callable) -> None:
    labels = np.pad(LABELS.astype(np.int32), ((0, 0), (0, 9)))
    labels[10:] = -1
    for path in (root / "labels").iterdir():
        path.unlink()
        tifffile.imwrite(path.with_suffix(".tif"), labels[:, : 30 + int(path.stem)])
    data = module(root, stages="fit test", image_size=(40, 60), augmentations=[albumentations.D4(p=1)])
    shares = [(batch.labels < 0).float().mean().item() for batch in data.train_dataloader()]
    assert np.allclose(shares, 0.5) and all(
        batch.labels.unique().tolist() == [-1, 0, 1, 2] for batch in [*data.train_dataloader(), *data.val_dataloader()]
    )
    (truth,) = next(iter(data.test_dataloader())).truths
    assert truth.unique().tolist() == [-1, 0, 1, 2] and (truth == -1).all(dim=1).sum() == 10
    with refused("not annotated throughout (-1)", "dense model"):
        whole_annotation(next(iter(data.val_dataloader())))
    with refused("not annotated throughout (-1)", "without cache_dir"):
        module(root, stages="fit", cache_dir=root.parent / "cache")
    for value, sentence in ((-2, "-1 for what is not annotated"), (-1, "-1 throughout, so that nothing is annotated")):
        tifffile.imwrite(root / "labels" / "3.tif", np.full((20, 33), value, np.int32))
        with refused(root / "labels" / "3.tif", sentence):
            [item.read() for item in module(root, test_root=root, stages="test").items["test"]]
