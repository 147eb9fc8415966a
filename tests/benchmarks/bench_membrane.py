"""CPU time of the scores of membranes, beside scikit-image's: ``python tests/benchmarks/bench_membrane.py``.

The slices are those of ISBI 2012 where ``KARYON_DATA`` or ``../shared/data`` holds them, else random cells of the same
size. The cell probability is a blurred truth with noise.
"""

import os
import time
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label
from skimage.metrics import adapted_rand_error, variation_of_information
from skimage.segmentation import watershed

from karyon.metrics.membrane import MembraneScores
from karyon.metrics.membrane_curves import CELL_THRESHOLDS

SLICES = 30
SIZE = 512


def truth() -> NDArray[np.int64]:
    """Label images (30, 512, 512)."""
    default = Path(__file__).parents[3] / "shared" / "data"
    path = Path(os.environ.get("KARYON_DATA", default)) / "isbi2012" / "train-labels.tif"
    if path.is_file():
        return np.stack([label(one, connectivity=1) for one in tifffile.imread(path)])
    return np.stack([random_cells(seed) for seed in range(SLICES)])


def random_cells(seed: int) -> NDArray[np.int64]:
    """The 150 cells of a random partition, with membrane between them."""
    seeds = np.zeros((SIZE, SIZE), dtype=np.int64)
    rng = np.random.default_rng(seed)
    seeds[tuple(rng.integers(0, SIZE, (2, 150)))] = np.arange(1, 151)
    cells = watershed(ndimage.distance_transform_edt(seeds == 0), seeds, watershed_line=True)
    return np.where(ndimage.binary_erosion(cells > 0, iterations=2, border_value=1), cells, 0)


def prediction(cells: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=cells.shape), 1)
    blurred = ndimage.gaussian_filter((cells > 0).astype(np.float32), 1.5)
    return np.clip(blurred + 0.3 * noise, 0, 1).astype(np.float32)


def plain(cells: NDArray[np.int64], probability: NDArray[np.float32]) -> None:
    """V_rand, V_info and the Rand error from scikit-image's functions; it has no warping error."""
    for threshold in CELL_THRESHOLDS:
        segments = label(probability > threshold, connectivity=1)
        thinned = watershed(np.zeros(cells.shape), segments, connectivity=1, watershed_line=True)
        alone = segments.max() + 1 + np.arange(cells.size).reshape(cells.shape)
        for image in (segments, thinned):
            own = np.where(image > 0, image, alone)
            with np.errstate(invalid="ignore"):  # single pixels alone have no pairs
                adapted_rand_error(cells, own)
            variation_of_information(cells[cells > 0][None], own[cells > 0][None])


def main() -> None:
    slices = [(cells, prediction(cells, seed)) for seed, cells in enumerate(truth())]
    metric = MembraneScores()
    start = time.process_time()
    for cells, probability in slices:
        metric.update(probability, cells)
    scores = metric.compute()
    ours = time.process_time() - start
    start = time.process_time()
    for cells, probability in slices:
        plain(cells, probability)
    theirs = time.process_time() - start
    print(
        f"{len(slices)} slices: {ours:.1f} s; scikit-image alone, without warping: {theirs:.1f} s, {theirs / ours:.1f}"
    )
    print({key: round(value.item(), 4) for key, value in scores.items()})


if __name__ == "__main__":
    main()
