"""Encodes and decodes the label images of DSB2018's training set with every representation, and times both.

``python tests/benchmarks/bench_representations.py --root data/dsb2018 --cache_dir data/cache [NAME ...]``

A line for each representation says what comes back of all true objects (those that no found object covers to more than
half count as 0), how long encoding takes for the batches of a training step, what share of that step it is with the
U-Net of configs/dsb2018/nuclei.yaml in bf16, and how long post-processing takes for 21,316 touching nuclei in an image
of 4096 x 4096 px, in a process of its own that holds nothing but the maps.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datamodules.cache import Cache
from datamodules.dsb2018 import DSB2018DataModule
from karyon.labels import relabel
from karyon.metrics.matching import match_instances
from karyon.networks.unet import UNet
from karyon.representations.protocol import Postprocessing
from karyon.representations.star import loss as star

sys.path.insert(0, str(Path(__file__).parents[1] / "karyon"))
from round_trip import METHODS, Method

NAMES = ("border", "distance", "star", "flow")


def star_targets(labels: Tensor) -> object:
    """What the loss derives from label images, less than the maps."""
    return star.object_probability(labels), star.ray_distances(labels, rays=32)


def label_images(cache: Cache, every: int) -> Iterator[NDArray[np.int64]]:
    for record in cache.records[::every]:
        yield cache.read_labels(record).astype(np.int64)


def round_trip(method: Method, cache: Cache, every: int) -> str:
    """What comes back of all true objects, and the seconds for all images."""
    ious, objects, images, encoding_s, decoding_s = 0.0, 0, [], 0.0, 0.0
    for labels in label_images(cache, every):
        start = time.perf_counter()
        maps = method.maps(labels)
        encoded = time.perf_counter()
        instances = method.postprocessing()(maps)
        decoding_s += time.perf_counter() - encoded
        encoding_s += encoded - start
        matching = match_instances(labels, instances.labels)
        ious, objects = ious + matching.ious.sum(), objects + matching.n_true
        images.append(matching.ious.sum() / matching.n_true)
    return (
        f"mean IoU {ious / objects:.4f} of {objects} objects ({np.mean(images):.4f} of {len(images)} images, worst "
        f"{min(images):.3f}, {np.sum(np.array(images) < 0.97)} below .97); encoded in {encoding_s:.1f} s, decoded in "
        f"{decoding_s:.1f} s"
    )


def training_batch(cache: Cache, count: int, size: int) -> Tensor:
    """Crops of at least 15 objects each, int64 (count, size, size)."""
    rng, crops = np.random.default_rng(0), []
    while len(crops) < count:
        labels = cache.read_labels(cache.records[rng.integers(len(cache.records))])
        if min(labels.shape) >= size:
            y, x = (rng.integers(length - size + 1) for length in labels.shape)
            crop = relabel(labels[y : y + size, x : x + size], split=True)
            if crop.max() >= 15:
                crops.append(torch.from_numpy(crop))
    return torch.stack(crops)


def encoding_ms(name: str, labels: Tensor) -> float:
    """The shortest of several runs, ms."""
    encode, times = star_targets if name == "star" else METHODS[name].output, []
    for _ in range(7):
        start = time.perf_counter()
        encode(labels)
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def step_ms(labels: Tensor) -> float:
    """A training step on such a batch without its targets, the shortest of several runs, ms."""
    network = UNet(3, 3, (24, 48, 96, 160, 256), (0.0, 0.0, 0.0, 0.1, 0.2), nn.ReLU, nn.BatchNorm2d)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters())
    image = torch.rand(len(labels), 3, *labels.shape[1:]).contiguous(memory_format=torch.channels_last)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = network(image).float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def encoding(name: str, labels: Tensor, step: float) -> str:
    spent = encoding_ms(name, labels)
    return f"{len(labels)} x {labels.shape[1]}² {spent:.1f} ms, {spent / (spent + step):.0%} of a step"


def touching_discs(size: int, pitch: int) -> NDArray[np.int64]:
    """A square image, ``size`` px wide, with a disc in each cell of a grid, cut off by its four neighbours."""
    cells = size // pitch
    y, x = np.ogrid[:pitch, :pitch]
    disc = (y - pitch // 2) ** 2 + (x - pitch // 2) ** 2 <= (0.53 * pitch) ** 2
    labels = np.zeros((size, size), dtype=np.int64)
    ids = np.arange(1, cells**2 + 1).reshape(cells, cells)
    labels[: cells * pitch, : cells * pitch] = np.kron(ids, disc)
    return labels


def find_in_file(postprocessing: Postprocessing, path: Path) -> tuple[int, float, float]:
    """Objects, seconds, and the most memory that the process has held, GiB."""
    maps = np.load(path)
    start = time.perf_counter()
    instances = postprocessing(maps)
    seconds = time.perf_counter() - start
    return len(instances), seconds, peak_memory()


def peak_memory() -> float:
    """The most memory that this process has held, GiB; Linux only, where `resource` counts its parent's as well."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def large_image(method: Method) -> str:
    labels = touching_discs(4096, 28)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "maps.npy"
        np.save(path, method.maps(labels))
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            objects, seconds, memory = pool.apply(find_in_file, (method.postprocessing(), path))
    return f"4096 x 4096 px: {objects} of {labels.max()} objects in {seconds:.1f} s and {memory:.1f} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="representations; all by default")
    parser.add_argument("--root", type=Path, default=Path("data/dsb2018"))
    parser.add_argument("--cache_dir", type=Path, default=Path("data/cache"))
    parser.add_argument("--every", type=int, default=1, help="of the images one in so many makes the round trip")
    args = parser.parse_args()
    cache = DSB2018DataModule(root=args.root, cache_dir=args.cache_dir).train_cache()
    batches = [(labels, step_ms(labels)) for labels in (training_batch(cache, 16, 128), training_batch(cache, 8, 256))]
    for name in args.names or NAMES:
        print(f"{name}: {round_trip(METHODS[name], cache, args.every)}", flush=True)
        times = [encoding(name, labels, step) for labels, step in batches]
        print(f"    targets of a batch: {', '.join(times)}; {large_image(METHODS[name])}", flush=True)


if __name__ == "__main__":
    main()
