"""The work of ``benchmark``: every method on every set, scored from the label images that it leaves."""

import argparse
import csv
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cli.benchmark_page import draw, page
from karyon.commands.batch import resumes
from karyon.commands.console import DONE_BEFORE, Tally, counted, progress, stoppable, stopped
from karyon.errors import DataError
from karyon.inference.classical import Classical
from karyon.instances import Instances, median_diameter
from karyon.io.encoding import label_tiff, png
from karyon.io.file_names import file_stem
from karyon.io.reading import read_labels
from karyon.io.whole_files import write_whole, writing_to
from karyon.labels import relabel
from karyon.layouts.all_layouts import find_layout, matching_layouts
from karyon.layouts.protocol import AnnotatedImage
from karyon.metrics.error_kinds import error_kinds
from karyon.metrics.matching import image_score, match_instances
from karyon.metrics.segmentation import segmentation_metrics
from karyon.model import load_model
from karyon.pictures.overlay import side_by_side

BASELINE = "classical"
Segment = Callable[..., Instances]


@dataclass(frozen=True)
class Method:
    """What finds objects.

    Attributes:
        name: a folder of that name holds what it finds.
        identity: changes where its results would.
        load: makes the function that segments the images of a set.
        doubt_below: of its card, see `karyon.bundle.Card`.
    """

    name: str
    identity: str
    load: Callable[[list[AnnotatedImage]], Segment]
    doubt_below: float | None = None


def run(options: argparse.Namespace) -> int:
    """Does what is not done yet, and writes the page; see `cli.benchmark.benchmark`."""
    sets = find_sets(options.folder, options.sets)
    methods = [*(_method(name, options.device) for name in options.model), classical()]
    if len({method.name for method in methods}) < len(methods):
        raise DataError(f"Two models have one name ({', '.join(m.name for m in methods)}): rename a bundle's folder.")
    tally = Tally("segmented")
    total = sum(map(len, sets.values())) * len(methods)
    print(
        f"{counted(len(sets), 'set')}, {counted(len(methods), 'method')}, {counted(total, 'image')} to segment; "
        f"results in {options.out}",
        flush=True,
    )
    with writing_to(options.out), stoppable():
        options.out.mkdir(parents=True, exist_ok=True)
        results: dict[str, dict[str, Any]] = {name: {} for name in sets}
        try:
            with progress("Benchmark", total) as report:
                for method in methods:
                    for name, images in sets.items():
                        work = SetRun(options.out / name / method.name, method, tally)
                        results[name][method.name] = work.score(images, partial(_said, report, name, method.name))
        except KeyboardInterrupt as stop:
            return stopped(stop, tally)
        if any(figures for methods in results.values() for figures in methods.values()):
            _write(options.out, results)
    return tally.summary()


def find_sets(folder: Path, names: list[str] | None = None) -> dict[str, list[AnnotatedImage]]:
    """The annotated images of a set, or of each set in a folder, by the set's name.

    Raises:
        DataError: there is none, or none of a name.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: name one that holds folders of annotated images.")
    if matching_layouts(folder):
        return {folder.resolve().name: find_layout(folder).images(folder)}
    found = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and matching_layouts(path)}
    if names and (missing := [name for name in names if name not in found]):
        raise DataError(f"{folder} holds no annotated set {missing[0]}: it holds {', '.join(found) or 'none'}.")
    if not found:
        raise DataError(f"{folder} holds no annotated sets: expected folders with images/ and labels/ in it.")
    return {name: find_layout(path).images(path) for name, path in found.items() if not names or name in names}


def _method(name: str, device: str) -> Method:
    model = load_model(name, device)
    # Two trainings may have left one name in their cards.
    called = name if "/" not in name else Path(name).resolve().name
    return Method(called, model.card.identity, lambda images: model.segment, model.card.doubt_below)


def classical() -> Method:
    """The baseline, which is told the true size of a set's objects."""
    return Method(BASELINE, "1", lambda images: Classical(_diameter(images)).segment)


def _said(report: Any, group: str, method: str, name: str, what: str) -> None:
    report(f"{group}/{name} by {method}", what)


class SetRun:
    """One method on one set.

    Args:
        folder: for its label images, pictures and times.
        method: finds the objects.
        tally: of all images.
    """

    def __init__(self, folder: Path, method: Method, tally: Tally) -> None:
        self.folder, self.method, self.tally = folder, method, tally

    def score(self, images: list[AnnotatedImage], report: Callable[[str, str], None]) -> dict[str, Any]:
        """Segments what is not segmented yet; the figures of all images, {} where none could be used."""
        self.folder.mkdir(parents=True, exist_ok=True)
        resumes(self.folder / "method.json", {"model": self.method.identity}, "choose another --out, or delete it")
        table = self.folder / "images.csv"
        done = dict(_rows(table))
        segment: Segment | None = None
        metrics = segmentation_metrics("")
        kinds, scored = [], {}
        for image in images:
            path = self.folder / f"{file_stem(image.name)}.tif"
            try:
                if image.name not in done or not path.exists():
                    segment = segment or self.method.load(images)
                    done[image.name] = self._segment(image, path, segment)
                    _append(table, image.name, *done[image.name])
                    self.tally.done += 1
                    said = f"{done[image.name][0]:.1f} s"
                else:
                    self.tally.skipped += 1
                    said = DONE_BEFORE
                truth, found = image.read()[1], read_labels(path)
            except DataError as error:
                report(image.name, self.tally.fail(image.file, str(error)))
                continue
            metrics.update(pred=found, target=truth, name=image.name)
            kinds.append(error_kinds(truth, found))
            scored[image.name] = image_score(match_instances(truth, found))
            report(image.name, said)
        if not kinds:
            return {}
        figures = {key: float(value) for key, value in metrics.compute().items()}
        seconds = float(np.mean([done[name][0] for name in scored]))
        each = {"confidence": [done[name][1] for name in scored], "scores": list(scored.values())}
        sums = dict(zip(kinds[0]._fields, np.sum(kinds, axis=0).tolist(), strict=True))
        about = {"images": len(kinds), "seconds": seconds, "each": each, "doubt_below": self.method.doubt_below}
        return figures | sums | about

    def _segment(self, image: AnnotatedImage, path: Path, segment: Segment) -> tuple[float, float]:
        """Segments an image; how long that took, s, and the mean score of its objects."""
        pixels, truth = image.read()
        start = time.perf_counter()
        found = segment(pixels, name=str(image.file))
        spent = time.perf_counter() - start
        write_whole(path, label_tiff(found.labels))
        write_whole(path.with_suffix(".png"), png(side_by_side(pixels, found.labels, truth)))
        return spent, found.confidence


def _diameter(images: list[AnnotatedImage]) -> float:
    """The median of the diameters of a set's true objects, px."""
    sizes = []
    for image in images:
        # Whatever cannot be read is named when its turn comes.
        with suppress(DataError):
            labels = relabel(image.read()[1])
            sizes += [median_diameter(Instances.from_labels(labels))] if labels.any() else []
    return float(np.median(sizes)) if sizes else 1.0


def _rows(path: Path) -> Iterator[tuple[str, tuple[float, float]]]:
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            # The last row may be cut.
            rows = (row for row in csv.reader(file) if len(row) == 3 and row[2])
            yield from ((name, (float(seconds), float(score))) for name, seconds, score in rows)


def _append(path: Path, name: str, seconds: float, score: float) -> None:
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerow([name, f"{seconds:.3f}", f"{score:.4f}"])


def _write(folder: Path, results: dict[str, dict[str, Any]]) -> None:
    from lightning_modules.callbacks.run_record import commit, processor

    record = {"sets": results, "commit": commit(), "hardware": processor(), "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    write_whole(folder / "benchmark.json", (json.dumps(record, indent=1) + "\n").encode())
    write_whole(folder / "benchmark.md", page(results).encode())
    draw(results, folder / "benchmark.png")
    print(f"Wrote {folder / 'benchmark.md'}, benchmark.png and benchmark.json.")
