"""Compares our post-processing of stars and flows with that which it comes from, on the same maps of real label images.

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
from numpy.typing import NDArray
from stardist.geometry.geom2d import polygons_to_label
from stardist.nms import non_maximum_suppression

from datamodules.cache import Cache
from datamodules.dsb2018 import DSB2018DataModule
from karyon.instances import Instances
from karyon.metrics.matching import match_instances
from karyon.representations.flow.loss import SCALE
from karyon.representations.flow.postprocessing import FlowPostprocessing
from karyon.representations.protocol import Maps
from karyon.representations.star.postprocessing import StarPostprocessing

sys.path.insert(0, str(Path(__file__).parents[1] / "karyon"))
from plain_cellpose import plain_masks
from round_trip import uncertain

try:
    from cellpose.dynamics import compute_masks
except ImportError:
    compute_masks = None

STAR = StarPostprocessing(min_area=1)
FLOW = FlowPostprocessing(min_area=1, max_flow_error=0)  # the plain form drops no objects for their flow either


def stardist(maps: Maps) -> NDArray[np.int32]:
    distances = np.moveaxis(maps[1:], 0, -1)
    points, scores, chosen = non_maximum_suppression(
        distances, maps[0], b=None, nms_thresh=STAR.nms, prob_thresh=STAR.threshold
    )
    return polygons_to_label(chosen, points, maps[0].shape, prob=scores)


def plain(maps: Maps) -> NDArray[np.int64]:
    return plain_masks(maps[:2], maps[2] >= FLOW.threshold)


def cellpose(maps: Maps) -> NDArray[np.integer]:
    # It expects flows five times as long, and by itself drops objects that fill much of the image.
    ways, inside = SCALE * maps[:2], maps[2] - FLOW.threshold
    return compute_masks(ways, inside, flow_threshold=0, max_size_fraction=1.0)


def compare(
    ours: Callable[[Maps], Instances], theirs: Callable[[Maps], NDArray[np.integer]], maps: Iterator[Maps]
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


def label_images(cache: Cache, every: int) -> Iterator[NDArray[np.int64]]:
    for record in cache.records[::every]:
        yield cache.read_labels(record).astype(np.int64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("data/dsb2018"))
    parser.add_argument("--cache_dir", type=Path, default=Path("data/cache"))
    parser.add_argument("--every", type=int, default=20, help="of the training images one in so many is used")
    args = parser.parse_args()
    cache = DSB2018DataModule(root=args.root, cache_dir=args.cache_dir).train_cache()
    for noise in (0, 0.05, 0.15):
        for name, ours, theirs in (
            ("star, StarDist", STAR, stardist),
            ("flow, plain", FLOW, plain),
            *([("flow, Cellpose", FLOW, cellpose)] if compute_masks else []),
        ):
            images = (uncertain(name[:4], labels, noise) for labels in label_images(cache, args.every))
            print(f"{name}, noise {noise}: {compare(ours, theirs, images)}", flush=True)


if __name__ == "__main__":
    main()
