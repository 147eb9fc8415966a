"""Compares our decoders of stars and flows with those they come from, on the same maps of real label images.

``python tests/benchmarks/bench_decoders.py --root data/dsb2018 --cache_dir data/cache [--every 20]``

Stars: StarDist's own suppression and drawing, in C++ and Python. Flows: Cellpose's way to find masks, as the tests have
it in plain NumPy (`plain_cellpose`), and Cellpose's own where it is installed. Its one module that is needed here asks
for little (``pip install --no-deps cellpose fastremap fill_voids``). The maps are those of the label images, exact and
with noise added. For each it prints how many objects both find (with an IoU above .9), of how many, and the ratio of
the times.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from stardist.geometry.geom2d import polygons_to_label
from stardist.nms import non_maximum_suppression
from torch import Tensor

from datamodules.cache import Cache
from datamodules.dsb2018 import DSB2018DataModule
from lightning_modules.instances import Instances
from lightning_modules.metrics import match_instances
from lightning_modules.representations import flow, star

sys.path.insert(0, str(Path(__file__).parents[1] / "lightning_modules"))
from plain_cellpose import plain_masks

try:
    from cellpose.dynamics import compute_masks
except ImportError:
    compute_masks = None

STAR = star.StarDecoder(min_area=1)
FLOW = flow.FlowDecoder(min_area=1, max_flow_error=0)  # the plain form drops no objects for their flow either


def stardist(maps: Tensor) -> NDArray[np.int32]:
    probability, distances = maps[0].numpy(), maps[1:].permute(1, 2, 0).numpy()
    points, scores, chosen = non_maximum_suppression(
        distances, probability, b=None, nms_thresh=STAR.nms, prob_thresh=STAR.threshold
    )
    return polygons_to_label(chosen, points, probability.shape, prob=scores)


def plain(maps: Tensor) -> NDArray[np.int64]:
    return plain_masks(maps[:2].numpy(), maps[2].numpy() >= FLOW.threshold)


def cellpose(maps: Tensor) -> NDArray[np.integer]:
    # It expects flows five times as long, and by itself drops objects that fill much of the image.
    ways, inside = flow.SCALE * maps[:2].numpy(), maps[2].numpy() - FLOW.threshold
    return compute_masks(ways, inside, flow_threshold=0, max_size_fraction=1.0)


def grain(shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    """Smooth noise of standard deviation 1."""
    noise = ndimage.gaussian_filter(rng.normal(size=shape), (0, 2, 2))
    return torch.from_numpy(noise / noise.std()).float()


def star_maps(labels: Tensor, noise: float, rng: np.random.Generator) -> Tensor:
    sure = star.encode(labels[None])[0]
    rough = noise * grain(sure.shape, rng)
    return torch.cat([(sure[:1].logit(eps=0.02) + 4 * rough[:1]).sigmoid(), sure[1:] * rough[1:].exp()])


def flow_maps(labels: Tensor, noise: float, rng: np.random.Generator) -> Tensor:
    sure = flow.encode(labels[None])[0]
    return torch.cat([sure[:2] + noise * grain(sure[:2].shape, rng), sure[2:]])


def compare(
    ours: Callable[[Tensor], Instances], theirs: Callable[[Tensor], NDArray[np.integer]], maps: Iterator[Tensor]
) -> str:
    both = found = expected = 0
    our_s = their_s = 0.0
    for image in maps:
        start = time.perf_counter()
        instances = ours(image)
        middle = time.perf_counter()
        labels = theirs(image)
        their_s += time.perf_counter() - middle
        our_s += middle - start
        matching = match_instances(labels, instances.labels)
        both, found, expected = both + matching.tp[8], found + matching.n_pred, expected + matching.n_true
    return (
        f"{both} objects alike of our {found} and their {expected}; {our_s:.2f} s and {their_s:.2f} s, a ratio of "
        f"{their_s / our_s:.1f}"
    )


def label_images(cache: Cache, every: int) -> Iterator[Tensor]:
    for record in cache.records[::every]:
        yield torch.from_numpy(cache.read_labels(record)).long()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("data/dsb2018"))
    parser.add_argument("--cache_dir", type=Path, default=Path("data/cache"))
    parser.add_argument("--every", type=int, default=20, help="of the training images one in so many is used")
    args = parser.parse_args()
    cache = DSB2018DataModule(root=args.root, cache_dir=args.cache_dir).train_cache()
    for noise in (0, 0.05, 0.15):
        for name, ours, theirs, maps in (
            ("star, StarDist", STAR, stardist, star_maps),
            ("flow, plain", FLOW, plain, flow_maps),
            *([("flow, Cellpose", FLOW, cellpose, flow_maps)] if compute_masks else []),
        ):
            rng = np.random.default_rng(0)
            images = (maps(labels, noise, rng) for labels in label_images(cache, args.every))
            print(f"{name}, noise {noise}: {compare(ours, theirs, images)}", flush=True)


if __name__ == "__main__":
    main()
