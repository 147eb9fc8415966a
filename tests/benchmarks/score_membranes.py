"""V_rand and V_info of a model for membranes on a stack that it was not trained on.

    python tests/benchmarks/score_membranes.py VOLUME LABELS --model membranes --pixel-size 0.0046

VOLUME and LABELS are stacks (Z, Y, X); in the labels 0 is membrane, and cells are numbered, or all one number. The best
threshold is chosen on the stack itself, as the challenge's own script does; beside it the figure at .5.
"""

import argparse
import time
from pathlib import Path

from karyon.io.reading import open_image
from karyon.metrics.membrane import MembraneScores
from karyon.model import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volume", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--model", default="membranes")
    parser.add_argument("--pixel-size", type=float, help="of the stack, um")
    parser.add_argument("--sections", type=int, nargs="+", help="numbers of the sections, from 0; all by default")
    parser.add_argument("--rotations", action="store_true")
    options = parser.parse_args()
    model = load_model(options.model, rotations=options.rotations)
    volume, labels = open_image(options.volume), open_image(options.labels, raw=True)
    metric, seconds = MembraneScores(), 0.0
    for number in options.sections or range(len(volume)):
        start = time.perf_counter()
        answer = model.answer(volume.read(number), pixel_size=options.pixel_size, probability=True)
        seconds += time.perf_counter() - start
        metric.update(answer.probability, labels.read(number), name=str(number))
        print(f"section {number}: {len(answer.instances)} cells", flush=True)
    for key, value in metric.compute().items():
        print(f"{key} {value:.4f}")
    print(f"{seconds / len(options.sections or range(len(volume))):.1f} s a section")


if __name__ == "__main__":
    main()
