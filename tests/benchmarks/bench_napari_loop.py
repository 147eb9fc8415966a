"""What retraining in napari gives: ``xvfb-run python tests/benchmarks/bench_napari_loop.py FOLDER --diameter 110``.

A script does in a real window what a user does: opens images of FOLDER (``images/`` and ``labels/`` of equal names),
segments them, draws nuclei that are missed, goes from one doubtful object to the next and replaces those that are wrong
by the annotated ones, keeps the images as training pairs, fine-tunes, and segments others, which it has not corrected,
with the new model. Then it segments its own images again, corrects more, and fine-tunes again. It prints the mean DSB
score of the others, and the minutes since the first image was opened, in which the user's hand takes no time;
--figure draws both.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from karyon.labels import LabelImage
from karyon.layouts.label_folders import LabelFolders
from karyon.metrics.matching import find_overlaps, image_score, match_instances

RIGHT = 0.9  # IoU above which a user leaves an object as it is


class Loop:
    """A user's hands in a window.

    Args:
        options: of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        import napari

        self.viewer = napari.Viewer(show=True)
        _, self.bench = self.viewer.window.add_plugin_dock_widget("karyon", "Segment, correct and retrain")
        self.segmentation, self.retraining = self.bench.segmentation, self.bench.retraining
        self.segmentation.diameter.value = options.diameter
        self.retraining.folder.value = options.pairs
        self.retraining.epochs.value = options.epochs or self.retraining.epochs.value
        images = {image.name: image for image in LabelFolders().images(options.folder)}
        names = sorted(images)[options.first :]
        self.truths = {name: images[name].read()[1] for name in names[: 2 * options.images]}
        self.files = {path.stem: path for path in (options.folder / "images").iterdir()}
        self.worked, self.others = names[: options.images], names[options.images : 2 * options.images]
        self.corrected = dict.fromkeys(self.worked, 0)

    def segment(self, name: str) -> Any:
        """Chooses an image, which is opened where it is not yet, and segments it; its labels layer."""
        if name not in self.viewer.layers:
            self.viewer.open(self.files[name], name=name)
        self.segmentation.image.value = self.viewer.layers[name]
        self.segmentation.run.native.click()
        wait(lambda: self.segmentation.run.enabled)
        return self.segmentation.labels_of(self.viewer.layers[name])

    def score(self) -> float:
        """Mean DSB score of the images that are not corrected."""
        scores = []
        for name in self.others:
            labels = self.segment(name).data
            scores.append(image_score(match_instances(self.truths[name], labels)))
            print(f"  {name} {scores[-1]:.3f}: {self.bench.status.value}", flush=True)
            self.viewer.layers.remove(f"{name} labels")
            self.viewer.layers.remove(name)
        return float(np.mean(scores))

    def correct(self, name: str, count: int) -> None:
        """Corrects doubtful objects of an image until so many are, then keeps it."""
        self.segmentation.image.value = self.viewer.layers[name]
        labels, truth = self.segmentation.labels_of(self.viewer.layers[name]), self.truths[name]
        for number in missed(labels.data, truth)[: count - self.corrected[name]]:
            self.corrected[name] += replace(labels, truth, truth == number)
        while self.corrected[name] < count:
            self.segmentation.next.native.click()
            if "last one" in self.bench.status.value:
                break
            self.corrected[name] += replace(labels, truth, labels.data == labels.selected_label)
        self.retraining.keep.native.click()
        print(f"  {name}: {self.corrected[name]} corrected. {self.bench.status.value}", flush=True)

    def fine_tune(self) -> None:
        """Fine-tunes on what is kept."""
        self.retraining.run.native.click()
        wait(lambda: self.retraining.work is None)
        print(f"  {self.bench.status.value} {self.retraining.curve.curves}", flush=True)


def replace(labels: Any, truth: LabelImage, place: Any) -> int:
    """Puts the annotated objects in place of what is found there, by the layer's data, as napari's tools do.

    Returns:
        how many objects have been corrected.
    """
    areas, shared = np.bincount(truth.ravel()), np.bincount(truth[place], minlength=truth.max() + 1)
    about = [
        number for number in np.flatnonzero(shared) if number and 2 * shared[number] > min(areas[number], place.sum())
    ]
    wanted = np.isin(truth, about)
    found = labels.data
    if len(about) == 1 and (wanted & place).sum() > RIGHT * (wanted | place).sum() and found[place].all():
        return 0
    # What lies mostly in them are fragments of them.
    inside, all_of = np.bincount(found[wanted], minlength=found.max() + 1), np.bincount(found.ravel())
    fragments = np.isin(found, np.flatnonzero((2 * inside > all_of) & (np.arange(len(all_of)) > 0)))
    labels.data_setitem(np.nonzero((place & (found > 0)) | fragments), 0)
    for number in about:
        labels.data_setitem(np.nonzero(truth == number), int(labels.data.max()) + 1)
    return max(1, len(about))


def missed(found: LabelImage, truth: LabelImage) -> list[int]:
    """Annotated objects that nothing matches."""
    overlaps = find_overlaps(truth, found)
    near = overlaps.true[2 * overlaps.intersection > overlaps.union]
    # Overlaps number objects as they appear, row by row.
    numbers, first = np.unique(truth, return_index=True)
    order = [int(number) for number in numbers[np.argsort(first)] if number]
    return [number for row, number in enumerate(order) if row not in set(near.tolist())]


def wait(done: Callable[[], bool]) -> None:
    """Lets the window work until something is done."""
    from qtpy.QtWidgets import QApplication

    while not done():
        QApplication.processEvents()
        time.sleep(0.02)


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """The score against corrected objects, with the minutes beside the points."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(4, 2.6), layout="constrained")
    axes.plot([row["corrected"] for row in rows], [row["score"] for row in rows], "o-", color="#0072b2")
    for row in rows[1:]:
        axes.annotate(
            f"{row['minutes']:.0f} min", (row["corrected"], row["score"]), xytext=(0, -14), textcoords="offset points"
        )
    axes.set(xlabel="corrected nuclei", ylabel="DSB score of other images")
    axes.margins(0.12, 0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=Path, default=Path("pairs"), help="an empty folder")
    parser.add_argument("--images", type=int, default=5, help="that are corrected; so many others are scored")
    parser.add_argument("--first", type=int, default=0, help="number of the first image")
    parser.add_argument("--corrections", type=int, nargs="+", default=[20, 60], help="in all images together")
    parser.add_argument("--diameter", type=float, default=0, help="px; 0: found")
    parser.add_argument("--epochs", type=int, help="of the fine-tuning; the window's by default")
    parser.add_argument("--figure", type=Path, help="a PNG to write")
    parser.add_argument("--screenshot", type=Path, help="a PNG of the window at the end")
    options = parser.parse_args()
    loop = Loop(options)
    rows = [{"corrected": 0.0, "score": loop.score(), "minutes": 0.0}]
    print(json.dumps(rows[-1]), flush=True)
    spent = 0.0
    for corrections in options.corrections:
        start = time.perf_counter()
        for name in loop.worked:
            loop.segment(name)
            loop.correct(name, corrections // options.images)
        loop.fine_tune()
        spent += time.perf_counter() - start
        rows.append({"corrected": float(sum(loop.corrected.values())), "score": loop.score(), "minutes": spent / 60})
        print(json.dumps(rows[-1]), flush=True)
    if options.screenshot:
        loop.viewer.screenshot(str(options.screenshot), canvas_only=False)
    if options.figure:
        draw(rows, options.figure)


if __name__ == "__main__":
    main()
