"""Times reading the label-image cache against reading the mask files it was made from.

``python tests/benchmarks/bench_cache.py --root data/dsb2018 --cache_dir data/cache``

Everything runs in one thread, on files that the system has in memory: each is read once before the clock starts.
"""

import argparse
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.io import imread

from datamodules.dsb2018 import DSB2018DataModule
from karyon.labels import LabelImage
from karyon.layouts.dsb2018_files import (
    Entry,
    Folder,
    Source,
    open_source,
    read_entry_image,
    read_entry_labels,
    scan_layout,
)


def pillow_loop(folder: Path, entry: Entry) -> LabelImage:
    """Sets the pixels of one mask after another, read by Pillow."""
    return merge(np.asarray(Image.open(folder / name)) for name in entry.masks)


def skimage_loop(folder: Path, entry: Entry) -> LabelImage:
    """Sets the pixels of one mask after another, read by scikit-image."""
    return merge(imread(folder / name) for name in entry.masks)


def merge(masks: Iterable[NDArray[np.uint8]]) -> LabelImage:
    """The loop that everybody writes."""
    labels: LabelImage | None = None
    for number, mask in enumerate(masks, start=1):
        part = np.where(mask > 0, number, 0).astype(np.int32)
        labels = part if labels is None else np.maximum(labels, part)
    assert labels is not None
    return labels


def seconds(title: str, read: Callable[..., object], images: Sequence[tuple[object, ...]], repeats: int = 1) -> float:
    """The shortest of several runs over all images, s; prints it."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for arguments in images:
            read(*arguments)
        times.append(time.perf_counter() - start)
    print(f"{title:52s} {min(times):8.2f} s", flush=True)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("data/dsb2018"))
    parser.add_argument("--cache_dir", type=Path, default=Path("data/cache"))
    args = parser.parse_args()
    cache = DSB2018DataModule(root=args.root, cache_dir=args.cache_dir).train_cache()
    source = open_source(args.root, "stage1_train")
    assert source is not None, f"{args.root} holds no stage1_train"
    entries = scan_layout(source)
    objects = sum(record.objects for record in cache.records)
    print(f"{len(entries)} images, {sum(len(entry.masks) for entry in entries)} mask files, {objects} objects")
    records = [(record,) for record in cache.records]
    sizes = {record.name: (record.height, record.width) for record in cache.records}

    def own_code(source: Source, entry: Entry) -> LabelImage:
        return read_entry_labels(source, entry, sizes[entry.name])

    def own_code_with_images(source: Source, entry: Entry) -> LabelImage:
        return read_entry_labels(source, entry, read_entry_image(source, entry).shape[:2])

    labels = seconds("cache, label images", cache.read_labels, records, repeats=3)
    both = seconds("cache, images and label images", lambda r: (cache.read_image(r), cache.read_labels(r)), records, 3)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.root / "stage1_train"
        if not folder.is_dir():
            folder = Path(temporary)
            with zipfile.ZipFile(f"{args.root / 'stage1_train'}.zip") as archive:
                archive.extractall(folder)
        extracted = Folder(folder)
        for name in extracted.sizes():
            extracted.read(name)
        slow: dict[str, tuple[Callable[..., object], object, float]] = {
            "mask files, our code, as they lie in the root": (own_code, source, labels),
            "mask files, our code, extracted": (own_code, extracted, labels),
            "mask files, loop over PIL.Image.open": (pillow_loop, folder, labels),
            "mask files, loop over skimage.io.imread": (skimage_loop, folder, labels),
            "images and mask files, our code, extracted": (own_code_with_images, extracted, both),
        }
        for title, (read, where, cached) in slow.items():
            print(f"    {seconds(title, read, [(where, entry) for entry in entries]) / cached:.0f} times the cache")


if __name__ == "__main__":
    main()
