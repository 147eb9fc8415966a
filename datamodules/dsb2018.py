"""The Data Science Bowl 2018: nuclei in 670 training and 65 test images of many microscopes and stainings."""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from datamodules.base import LabelImageDataModule
from datamodules.cache import Cache, Reader, build_cache, cached_item, open_cache
from datamodules.content import check_content, content_fingerprint, read_content_manifest
from datamodules.download import download
from datamodules.splits import Member, hold_image_types_out, of_image_types, read_manifest, split, write_manifest
from karyon.errors import DataError
from karyon.io.reading import read_bytes
from karyon.layouts.dsb2018_annotation import Corrections, SolutionTable, read_corrected, read_masks, read_solution
from karyon.layouts.dsb2018_files import (
    Source,
    listing_digest,
    open_source,
    scan_layout,
)

ADDRESS = "https://data.broadinstitute.org/bbbc/BBBC038/"
SPLITS = Path(str(files("datamodules") / "manifests"))
MANIFEST = SPLITS / "dsb2018.csv"


class DSB2018DataModule(LabelImageDataModule):
    """The Data Science Bowl 2018 (BBBC038), or any data in its layout.

    Under ``root``, as archives or extracted folders::

        stage1_train.zip       <ImageId>/images/<ImageId>.png, <ImageId>/masks/*.png (one nucleus a file)
        stage1_test.zip        <ImageId>/images/<ImageId>.png
        stage1_solution.csv    ImageId,EncodedPixels,Height,Width,Usage
        stage1_train_corrections.zip    <ImageId>.png, removed.txt (only for annotation: corrected)
        stage2_test_final.zip, stage2_solution_final.csv    (only for test_set: stage2)

    Licence: CC0. Citation: Caicedo et al. 2019, "Nucleus segmentation across imaging experiments: the 2018 Data
    Science Bowl", Nature Methods 16. Address: https://bbbc.broadinstitute.org/BBBC038

    Args:
        root: folder with the originals; not needed once the cache is built.
        cache_dir: where the label-image caches (about 50 MB) and the split manifests are kept.
        download: whether to fetch missing archives (100 MB) from the public address.
        manifest: table of every image's content (SHA-256 of pixels and of label image) that the data must match; null
            to use data of your own in this layout.
        test_set: ``stage1`` (65 images) or ``stage2`` (its 106 scored images; their content is not pinned).
        annotation: ``original``, or ``corrected``: with the community's label images in place of 109 of the training
            images' masks, and without the 6 images it gave up. The test images are never corrected. For the public
            repository of these corrections put in place of ``stage1_train``, take ``original`` with ``manifest: null``.
        image_types: image types of the training images to use at all; all of them by default.
        val_fraction: share of the training images held out for validation, by image type.
        test_fraction: share of the training images held out for the test, by image type, in place of the test set: for
            figures to stand beside those of publications that held out images of their own.
        val_image_types: image types to validate on as a whole, in place of a share of each: what a
            model does on types it has not seen.
        split_seed: another seed, another split.
        split_manifest: a split written earlier, to be used again, or one that comes with the project, by the name of
            its file; its images are checked by content. Where it has a part ``test``, that is tested on.
        address: where `download` finds the archives.
        kwargs: see `datamodules.base.LabelImageDataModule`.
    """

    def __init__(
        self,
        root: Path = Path("data/dsb2018"),
        cache_dir: Path = Path("data/cache"),
        download: bool = False,
        manifest: Path | None = MANIFEST,
        test_set: Literal["stage1", "stage2"] = "stage1",
        annotation: Literal["original", "corrected"] = "original",
        image_types: list[str] | None = None,
        val_fraction: float = 0.2,
        test_fraction: float = 0.0,
        val_image_types: list[str] | None = None,
        split_seed: int = 42,
        split_manifest: Path | None = None,
        address: str = ADDRESS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if val_image_types and test_fraction:
            raise ValueError(
                "val_image_types and test_fraction do not go together: hold out whole image types, or a share."
            )
        self.root = Path(root)
        self.cache_dir = Path(cache_dir)
        self.download = download
        self.expected = read_content_manifest(manifest) if manifest else {}
        self.test_archive, self.solution = {
            "stage1": ("stage1_test", "stage1_solution.csv"),
            "stage2": ("stage2_test_final", "stage2_solution_final.csv"),
        }[test_set]
        self.annotation = annotation
        self.image_types = image_types
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.val_image_types = val_image_types
        self.split_seed = split_seed
        self.split_manifest = Path(split_manifest) if split_manifest else None
        if self.split_manifest and not self.split_manifest.exists() and (SPLITS / self.split_manifest).exists():
            self.split_manifest = SPLITS / self.split_manifest
        self.address = address

    def prepare_data(self) -> None:
        self.train_cache()
        self.test_cache()

    def setup(self, stage: str) -> None:
        # A test on the test set needs no split.
        if stage in ("fit", "validate") or self.test_fraction or self.split_manifest:
            cache = self.train_cache()
            records = {record.name: record for record in cache.records}
            for part, names in self._split(cache).items():
                self.items[part] = [cached_item(cache, records[name]) for name in names]
        if stage != "validate":
            cache = self.test_cache()
            # The images held out for the test, where there are any, come before the test set.
            images = self.items["test"] or [cached_item(cache, record) for record in cache.records]
            self.items["predict" if stage == "predict" else "test"] = images

    def train_cache(self) -> Cache:
        """The cache of the training images, built where it is not there yet."""
        if self.annotation == "corrected":
            return self._cache("stage1_train_corrected", self._corrected_readers)
        return self._cache("stage1_train", self._train_readers)

    def test_cache(self) -> Cache:
        """The cache of the test images, built where it is not there yet."""
        return self._cache(self.test_archive, self._test_readers)

    def _cache(self, name: str, readers: Callable[[Source], dict[str, Reader]]) -> Cache:
        expected = self.expected.get(name)
        # Content that is pinned needs no look at its originals once it is in the cache.
        if expected and (cache := open_cache(self._cache_folder(name, content_fingerprint(expected)))):
            return cache
        source = self._source(name)
        folder = self._cache_folder(name, content_fingerprint(expected) if expected else self._listing(source, name))
        if cache := open_cache(folder):
            return cache
        check = partial(check_content, expected=expected, where=source.path) if expected else None
        return build_cache(folder, readers(source), f"Preparing {name}", check)

    def _cache_folder(self, name: str, fingerprint: str) -> Path:
        return self.cache_dir / f"{name}-{fingerprint}"

    def _listing(self, source: Source, name: str) -> str:
        """Fingerprint of originals whose content is not known yet; some annotation lies apart from the images."""
        digests = [listing_digest(source)]
        table = self.root / self.solution
        if name == "stage1_train_corrected":
            digests.append(listing_digest(Corrections(self.root).source))
        if name == self.test_archive and table.exists():
            digests.append(hashlib.sha256(read_bytes(table)).hexdigest())
        return hashlib.sha256("".join(digests).encode()).hexdigest()[:12]

    def _source(self, name: str) -> Source:
        name = name.removesuffix("_corrected")
        if self.download and name == self.test_archive:
            download(self.address, [self.solution], self.root)
        source = open_source(self.root, name)
        if source is None and self.download:
            download(self.address, [f"{name}.zip"], self.root)
            source = open_source(self.root, name)
        if source is None:
            raise DataError(
                f"There is no {name}.zip and no folder {name} in {self.root}: point to the Data Science Bowl 2018 with "
                "--data.init_args.root FOLDER, or have it downloaded (100 MB) with --data.init_args.download true."
            )
        return source

    def _train_readers(self, source: Source) -> dict[str, Reader]:
        return {entry.name: partial(read_masks, source, entry) for entry in scan_layout(source)}

    def _corrected_readers(self, source: Source) -> dict[str, Reader]:
        corrections = Corrections(self.root)
        entries = {entry.name: entry for entry in scan_layout(source)}
        if unknown := sorted((corrections.files.keys() | corrections.removed) - entries.keys()):
            raise DataError(f"{corrections.source.path} corrects image {unknown[0]}, which {source.path} lacks.")
        return {
            name: partial(read_corrected, source, entry, corrections)
            if name in corrections.files
            else partial(read_masks, source, entry)
            for name, entry in entries.items()
            if name not in corrections.removed
        }

    def _test_readers(self, source: Source) -> dict[str, Reader]:
        table = SolutionTable(self.root / self.solution)
        entries = scan_layout(source)
        if absent := sorted(table.codes.keys() - {entry.name for entry in entries}):
            raise DataError(f"{source.path} lacks image {absent[0]} of {table.path.name}: get the archive again.")
        if self.solution.startswith("stage2"):
            # The rest of its 3,019 images was never annotated.
            entries = [entry for entry in entries if entry.name in table.codes]
        return {entry.name: partial(read_solution, source, entry, table) for entry in entries}

    def _split(self, cache: Cache) -> dict[str, list[str]]:
        members = [
            Member(record.name, record.image_sha256, record.image_type, record.group) for record in cache.records
        ]
        if self.split_manifest:
            return self._read_split(self.split_manifest, members)
        if self.image_types:
            members = of_image_types(members, self.image_types)
        path = self.cache_dir / "splits" / f"{cache.folder.name}-{self._split_name()}.json"
        if path.exists():
            return self._read_split(path, members)
        if self.val_image_types:
            parts = hold_image_types_out(members, self.val_image_types)
        else:
            fractions = {"val": self.val_fraction, "test": self.test_fraction}
            fractions = {part: fraction for part, fraction in fractions.items() if part == "val" or fraction}
            parts = split(members, {**fractions, "train": 1 - sum(fractions.values())}, self.split_seed)
        write_manifest(path, members, parts, {"seed": self.split_seed})
        return parts

    def _split_name(self) -> str:
        """What a split is made of; splits that differ have other names."""
        image_types = ["+".join(sorted(self.image_types))] if self.image_types else []
        test = [f"test{self.test_fraction:g}"] if self.test_fraction else []
        val = "+".join(sorted(self.val_image_types)) if self.val_image_types else f"val{self.val_fraction:g}"
        return "-".join([*image_types, *test, val, f"seed{self.split_seed}"])

    def _read_split(self, path: Path, members: Sequence[Member]) -> dict[str, list[str]]:
        parts = read_manifest(path, members)
        if not {"train", "val"} <= parts.keys():
            raise DataError(f"{path} has the parts {', '.join(parts)}: a split manifest needs train and val.")
        return parts
