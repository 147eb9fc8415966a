"""A user's own annotated images, in whatever layout they lie."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from datamodules.base import LabelImageDataModule
from datamodules.cache import build_cache, cached_item
from datamodules.groups import Groups, by_pattern, by_table, hold_fold_out, hold_shares_out, joined
from datamodules.splits import Member, split
from karyon.commands.console import counted
from karyon.errors import DataError
from karyon.io.other_formats import passed_over, unread_below
from karyon.io.reading import Pixels, read_image
from karyon.layouts.all_layouts import find_layout, matching_layouts
from karyon.layouts.files import list_images
from karyon.layouts.protocol import AnnotatedImage, Item, Layout


class FolderDataModule(LabelImageDataModule):
    """Images and what is annotated in them, of any mix of sizes.

    Under ``root``, in Karyon's own layout (`karyon.layouts.label_folders.LabelFolders`)::

        images/    TIFF or PNG (JPEG, WebP, BMP too), 8 or 16 bit or float, grey, RGB or RGBA
        labels/    a label image each, same name, PNG or TIFF: 0 background, another number for each object

    or in StarDist's, Cellpose's, DSB2018's, COCO's, QuPath's or Aperio's, which is found out where it is not given.
    Polygons, run lengths and mask files are read anew in each epoch, unless there is a ``cache_dir``. For 16-bit and
    float images choose ``normalization: karyon.preprocessing.PercentileNormalize``.

    Args:
        root: folder of the annotated images.
        val_fraction: share of the images held out to validate on, of groups where there are any; identical files stay
            on one side.
        test_fraction: the same to test on.
        val_root: a folder like ``root`` to validate on instead of a share of it.
        test_root: the same to test on.
        group_pattern: a regular expression with one group in brackets, which finds in an image's name what it belongs
            to, such as a patient, a plate or a slide; images of one group stay on one side.
        group_table: a CSV table that tells the groups instead: a column ``image`` with the names, and
        group_column: the column with the groups.
        folds: cuts the images into so many folds, whole groups at a time, instead of taking shares;
        fold: which one is tested on, from 0; the one before it is validated on. With a ``test_root`` that one is.
        predict_root: a folder of images (or with a subfolder ``images``) to predict; the images of ``root`` by default.
        split_seed: another seed, another split.
        layout: how the images and their annotation lie, a class of `karyon.layouts`.
        cache_dir: where to keep a label-image cache, for 8-bit images whose annotation is slow to read.
        kwargs: see `datamodules.base.LabelImageDataModule`.
    """

    def __init__(
        self,
        root: Path,
        val_fraction: float = 0.2,
        test_fraction: float = 0.1,
        val_root: Path | None = None,
        test_root: Path | None = None,
        predict_root: Path | None = None,
        group_pattern: str | None = None,
        group_table: Path | None = None,
        group_column: str = "group",
        folds: int | None = None,
        fold: int = 0,
        split_seed: int = 42,
        layout: Layout | None = None,
        cache_dir: Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)
        self.roots = {"val": val_root and Path(val_root), "test": test_root and Path(test_root)}
        shares = {"val": val_fraction, "test": test_fraction}
        self.held_out = {part: share for part, share in shares.items() if not self.roots[part]}
        self.predict_root = Path(predict_root) if predict_root else None
        if group_pattern and group_table:
            raise ValueError("group_pattern and group_table both tell the groups: give one of them.")
        self.group_pattern = group_pattern
        self.group_table = Path(group_table) if group_table else None
        self.group_column = group_column
        if folds and (val_root or not 0 <= fold < folds or folds < 2 + (not test_root)):
            raise ValueError(
                f"fold is {fold} of {folds} folds: expected 3 folds or more (2 with a test_root), a fold from 0 to "
                "folds - 1, and no val_root."
            )
        self.folds = folds
        self.fold = fold
        self.split_seed = split_seed
        self.layout = layout
        self.cache_dir = Path(cache_dir) if cache_dir else None
        self.told: set[Path] = set()

    def setup(self, stage: str) -> None:
        part = {"validate": "val", "test": "test"}.get(stage, "")
        if stage == "predict":
            self.items["predict"] = self._to_predict()
        elif root := self.roots.get(part):
            self.items[part] = list(self._items(root, self._annotated(root)).values())
        else:
            self._split()

    def _tell_passed_over(self, root: Path, files: Iterable[Path]) -> None:
        """Says once which files in a folder are not read."""
        if root not in self.told and (said := passed_over(files)):
            rank_zero_info(f"{root}: {said}")
        self.told.add(root)

    def _annotated(self, root: Path) -> list[AnnotatedImage]:
        self._tell_passed_over(root, unread_below(root))
        images = (self.layout or find_layout(root)).images(root)
        if problem := next((image.problem for image in images if image.problem), None):
            raise DataError(problem)
        return images

    def _items(self, root: Path, images: Sequence[AnnotatedImage]) -> dict[str, Item]:
        if self.cache_dir is None:
            return {image.name: Item(image.name, "", image.read, (image.file,)) for image in images}
        files = {root, *root.rglob("*"), *(image.file for image in images)}
        folder = self.cache_dir / f"{root.stem}-{_fingerprint(files)}"
        cache = build_cache(folder, {image.name: image.read for image in images}, f"Preparing {root}")
        return {record.name: cached_item(cache, record) for record in cache.records}

    def _groups(self, names: Sequence[str]) -> Groups:
        if self.group_pattern:
            return by_pattern(names, self.group_pattern)
        return by_table(names, self.group_table, self.group_column) if self.group_table else {}

    def _split(self) -> None:
        images = self._annotated(self.root)
        digests = {image.name: hashlib.sha256(image.data()).hexdigest() for image in images}
        groups = self._groups(list(digests))
        whole = joined(groups, digests) if groups else digests
        if self.folds:
            parts = hold_fold_out(whole, self.folds, self.fold, self.split_seed, not self.roots["test"])
        elif groups:
            parts = hold_shares_out(whole, self.held_out, self.split_seed)
        else:
            members = [Member(name, digest, "", whole[name]) for name, digest in digests.items()]
            parts = split(members, {**self.held_out, "train": 1 - sum(self.held_out.values())}, self.split_seed)
        items = self._items(self.root, images)
        for part, names in parts.items():
            self.items[part] = [items[name] for name in names]
        for part, root in self.roots.items():
            if root:
                self.items[part] = self._apart(root, {groups[name] for name in parts["train"] if groups})
        if not self.items["train"] or not self.items["val"]:
            held = f"{counted(len(images), 'image')} in {counted(len(set(whole.values())), 'group')}"
            raise DataError(
                f"{self.root} holds {held}, too few to train on and hold {self.held_out.get('val', 0):.0%} out: add "
                "images or change --data.init_args.val_fraction."
            )

    def _apart(self, root: Path, trained: set[str]) -> list[Item]:
        """The images of a folder, none of them of a group that is trained on."""
        items = self._items(root, self._annotated(root))
        if trained and (shared := sorted(trained & set(self._groups(list(items)).values()))):
            raise DataError(f"{root} and {self.root} both hold images of {shared[0]}: keep a group in one of them.")
        return list(items.values())

    def _to_predict(self) -> list[Item]:
        root = self.predict_root
        # Where masks lie among the images, only the layout tells them apart.
        if root is None and (self.layout or matching_layouts(self.root)):
            layout = self.layout or find_layout(self.root)
            self._tell_passed_over(self.root, unread_below(self.root))
            images = layout.images(self.root)
            return [Item(image.name, "", partial(_unannotated, image.pixels), (image.file,)) for image in images]
        root = root or self.root
        folder = root / "images" if (root / "images").is_dir() else root
        files = list_images(folder).items()
        named = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        self._tell_passed_over(folder, set(named) - {path for _, path in files})
        return [Item(name, "", partial(_unannotated, partial(read_image, path)), (path,)) for name, path in files]


def _fingerprint(files: Iterable[Path]) -> str:
    """A short name for the files as they are: their names, sizes and times of change."""
    states = ((path, path.stat()) for path in sorted(files))
    lines = [f"{path}\t{state.st_size}\t{state.st_mtime_ns}" for path, state in states]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def _unannotated(read: Callable[[], Pixels]) -> tuple[Pixels, None]:
    return read(), None
