"""A user's own images and label images in two folders."""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

from datamodules.base import Item, LabelImageDataModule
from datamodules.reading import IMAGE_SUFFIXES, TIFF_SUFFIXES, Pixels, read_bytes, read_image, read_labels
from datamodules.sample import DataError, LabelImage
from datamodules.splits import Member, split

# Lossless ones: JPEG would blur the numbers.
LABEL_SUFFIXES = {".png", ".bmp", *TIFF_SUFFIXES}


class FolderDataModule(LabelImageDataModule):
    """Pairs of images and label images with the same name, of any mix of sizes.

    Under ``root``::

        images/    TIFF or PNG (JPEG, WebP, BMP too), 8 or 16 bit or float, grey, RGB or RGBA
        labels/    a label image each, same name, PNG or TIFF: 0 background, another number for each object

    For 16-bit and float images choose ``normalization: datamodules.transforms.PercentileNormalize``.

    Args:
        root: folder with ``images`` and ``labels``.
        val_fraction, test_fraction: shares held out; identical files stay on one side.
        test_root: a folder like ``root`` to test on instead of a share of it.
        predict_root: a folder of images (or with a subfolder ``images``) to predict; ``root`` by default.
        split_seed: another seed, another split.
        kwargs: see `datamodules.base.LabelImageDataModule`.
    """

    def __init__(
        self,
        root: Path,
        val_fraction: float = 0.2,
        test_fraction: float = 0.1,
        test_root: Path | None = None,
        predict_root: Path | None = None,
        split_seed: int = 42,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)
        held_out = {"val": val_fraction} if test_root else {"val": val_fraction, "test": test_fraction}
        self.fractions = {**held_out, "train": 1 - sum(held_out.values())}
        self.test_root = Path(test_root) if test_root else None
        self.predict_root = Path(predict_root) if predict_root else self.root
        self.split_seed = split_seed

    def setup(self, stage: str) -> None:
        if stage == "predict":
            self.items["predict"] = [
                Item(name, "", partial(_read, path, None), (path,)) for name, path in _images(self.predict_root)
            ]
        elif stage == "test" and self.test_root:
            self.items["test"] = _pairs(self.test_root)
        else:
            self._split()

    def _split(self) -> None:
        items = {item.name: item for item in _pairs(self.root)}
        digests = {name: hashlib.sha256(read_bytes(path)).hexdigest() for name, path in _images(self.root)}
        members = [Member(name, digest, "", digest) for name, digest in digests.items()]
        for part, names in split(members, self.fractions, self.split_seed).items():
            self.items[part] = [items[name] for name in names]
        if not self.items["train"] or not self.items["val"]:
            raise DataError(
                f"{self.root} holds {len(items)} images, too few to train on and hold {self.fractions['val']:.0%} out: "
                "add images or change --data.init_args.val_fraction."
            )


def _images(root: Path) -> list[tuple[str, Path]]:
    """Names (the path below ``images`` without suffix) and files, sorted."""
    folder = root / "images" if (root / "images").is_dir() else root
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}: expected {root}/images and {root}/labels.")
    files = _files(folder, IMAGE_SUFFIXES)
    if not files:
        raise DataError(f"{folder} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}): put the images there.")
    return sorted(files.items())


def _files(folder: Path, suffixes: set[str]) -> dict[str, Path]:
    files = files_by_name(folder, suffixes)
    for name, paths in files.items():
        if len(paths) > 1:
            raise DataError(f"{folder} holds two files named {name}, of different types: rename or remove one.")
    return {name: paths[0] for name, paths in files.items()}


def files_by_name(folder: Path, suffixes: set[str]) -> dict[str, list[Path]]:
    """The files below a folder, of certain suffixes, by their names: the path below the folder without suffix."""
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        # Hidden files are what macOS and editors leave behind.
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file():
            files.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    return files


def pair_item(name: str, image: Path, labels: Path) -> Item:
    """The item of an image and its label image."""
    return Item(name, "", partial(_read, image, labels), (image, labels))


def _pairs(root: Path) -> list[Item]:
    folder = root / "labels"
    if not (root / "images").is_dir() or not folder.is_dir():
        raise DataError(f"{root} is not laid out as images/ and labels/: make both folders, with files of equal names.")
    files = _files(folder, LABEL_SUFFIXES)
    items = []
    for name, path in _images(root):
        if name not in files:
            raise DataError(f"{path} has no label image: expected {folder / name}.tif or .png.")
        items.append(pair_item(name, path, files[name]))
    return items


def _read(image: Path, labels: Path | None) -> tuple[Pixels, LabelImage | None]:
    return read_image(image), read_labels(labels) if labels else None
