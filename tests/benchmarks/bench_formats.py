"""Times every format on one image of 25,000 objects: ``python tests/benchmarks/bench_formats.py [ROWS]``.

Objects are discs of irregular size in ROWS x ROWS places (158 by default), some with a hole, some touching.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from karyon.instances import Instances, Prediction
from karyon.io import encoding, tables

PITCH = 25  # px between the places


def discs(rows: int) -> NDArray[np.int64]:
    """A label image (H, W) of rows * rows objects."""
    rng = np.random.default_rng(0)
    side = np.arange(rows * PITCH)
    radius = rng.uniform(5, 14, (rows, rows))[side[:, None] // PITCH, side // PITCH]
    wobble = 2 * ndimage.gaussian_filter(rng.normal(size=radius.shape), 2) / 0.14
    distance = np.hypot((side % PITCH - PITCH // 2)[:, None], side % PITCH - PITCH // 2)
    number = 1 + side[:, None] // PITCH * rows + side // PITCH
    return np.where((distance < radius + wobble.clip(-3, 3)) & (distance >= (radius > 12) * 2), number, 0)


def main() -> None:
    """Prints seconds and the share of each format."""
    labels = discs(int(sys.argv[1]) if len(sys.argv) > 1 else 158)
    prediction = Prediction("bench", labels.shape, None, Instances.from_labels(labels))
    source = np.random.default_rng(1).integers(0, 65536, labels.shape, dtype=np.uint16)
    work: dict[str, Callable[[], object]] = {
        "label TIFF": lambda: encoding.label_tiff(prediction.instances.labels),
        "overlay PNG": lambda: encoding.overlay_png(prediction, source),
        "ROI zip": lambda: encoding.roi_zip(prediction),
        "GeoJSON": lambda: encoding.geojson(prediction),
        "COCO": lambda: encoding.coco(prediction),
        "objects": lambda: list(tables.object_rows(prediction, source)),
        "run lengths": lambda: list(tables.run_length_rows(prediction, prediction.name)),
    }
    seconds = {}
    for name, write in work.items():
        start = time.perf_counter()
        write()
        seconds[name] = time.perf_counter() - start
    total = sum(seconds.values())
    for name, spent in seconds.items():
        print(f"{name:12} {spent:6.2f} s  {spent / total:4.0%}")
    print(f"{len(prediction.instances):,} objects in {labels.shape[0]} x {labels.shape[1]} px: {total:.1f} s in all")


if __name__ == "__main__":
    main()
