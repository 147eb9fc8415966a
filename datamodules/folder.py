"""A user's own annotated images, in whatever layout they lie."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from datamodules.base import LabelImageDataModule
from datamodules.splits import Member, split
from karyon.errors import DataError
from karyon.io.reading import Pixels, read_image
from karyon.layouts.all_layouts import find_layout, matching_layouts
from karyon.layouts.files import list_images
from karyon.layouts.protocol import AnnotatedImage, Item, Layout


class FolderDataModule(LabelImageDataModule):
    """Images and what is annotated in them, of any mix of sizes.

    Under ``root``, in Karyon's own layout (`karyon.layouts.label_folders.LabelFolders`)::

        images/    TIFF or PNG (JPEG, WebP, BMP too), 8 or 16 bit or float, grey, RGB or RGBA
        labels/    a label image each, same name, PNG or TIFF: 0 background, another number for each object

    or in StarDist's, Cellpose's, DSB2018's, COCO's or QuPath's, which is found out where it is not given. Polygons, run
    lengths and mask files are read anew in each epoch: ``python -m cli convert`` makes label images of them, which are
    faster. For 16-bit and float images choose ``normalization: karyon.preprocessing.PercentileNormalize``.

    Args:
        root: folder of the annotated images.
        val_fraction, test_fraction: shares held out; identical files stay on one side.
        test_root: a folder like ``root`` to test on instead of a share of it.
        predict_root: a folder of images (or with a subfolder ``images``) to predict; the images of ``root`` by default.
        split_seed: another seed, another split.
        layout: how the images and their annotation lie, a class of `karyon.layouts`.
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
        layout: Layout | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)
        held_out = {"val": val_fraction} if test_root else {"val": val_fraction, "test": test_fraction}
        self.fractions = {**held_out, "train": 1 - sum(held_out.values())}
        self.test_root = Path(test_root) if test_root else None
        self.predict_root = Path(predict_root) if predict_root else None
        self.split_seed = split_seed
        self.layout = layout

    def setup(self, stage: str) -> None:
        if stage == "predict":
            self.items["predict"] = self._to_predict()
        elif stage == "test" and self.test_root:
            self.items["test"] = [_item(image) for image in self._annotated(self.test_root)]
        else:
            self._split()

    def _annotated(self, root: Path) -> list[AnnotatedImage]:
        images = (self.layout or find_layout(root)).images(root)
        if problem := next((image.problem for image in images if image.problem), None):
            raise DataError(problem)
        return images

    def _split(self) -> None:
        images = {image.name: image for image in self._annotated(self.root)}
        digests = {name: hashlib.sha256(image.data()).hexdigest() for name, image in images.items()}
        members = [Member(name, digest, "", digest) for name, digest in digests.items()]
        for part, names in split(members, self.fractions, self.split_seed).items():
            self.items[part] = [_item(images[name]) for name in names]
        if not self.items["train"] or not self.items["val"]:
            raise DataError(
                f"{self.root} holds {len(images)} images, too few to train on and hold {self.fractions['val']:.0%} out"
                ": add images or change --data.init_args.val_fraction."
            )

    def _to_predict(self) -> list[Item]:
        root = self.predict_root
        # Where masks lie among the images, only the layout tells them apart.
        if root is None and (self.layout or matching_layouts(self.root)):
            layout = self.layout or find_layout(self.root)
            images = layout.images(self.root)
            return [Item(image.name, "", partial(_unannotated, image.pixels), (image.file,)) for image in images]
        root = root or self.root
        folder = root / "images" if (root / "images").is_dir() else root
        files = list_images(folder).items()
        return [Item(name, "", partial(_unannotated, partial(read_image, path)), (path,)) for name, path in files]


def _item(image: AnnotatedImage) -> Item:
    return Item(image.name, "", image.read, (image.file,))


def _unannotated(read: Callable[[], Pixels]) -> tuple[Pixels, None]:
    return read(), None
