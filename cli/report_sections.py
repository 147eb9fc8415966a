"""What a report says of its runs, section by section; where a run has not recorded something, it says so."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from markupsafe import Markup

from cli.report_figures import losses, monitored, over_thresholds, strips
from cli.report_page import Block, Drawn, Note, Section, Table, code, named, strong
from cli.report_runs import ImageScores, ReportedRun
from cli.results_page import FIGURES, NONE, image_types, number
from cli.results_records import Run, trained
from lightning_modules.metrics import THRESHOLDS
from lightning_modules.metrics.per_image import ratio

Runs = Sequence[ReportedRun]
TYPE_METRICS = ("dsb_score", "ap50", "ap70", "ap90", "aji", "pq", "count_error", "iou")


def without(runs: Runs, lack: str, remedy: str = "") -> list[Block]:
    """A sentence that names the runs which do not tell something, none where all do."""
    if not runs:
        return []
    names = Markup(", ").join(named(run) for run in runs)
    return [Note(Markup("{}: {}. {}").format(names, lack, remedy))]


def unscored(runs: Runs) -> list[Block]:
    """Says which runs have no scores of single images."""
    untested = [run for run in runs if run.tested is None]
    old = [run for run in runs if run.tested and run.images is None]
    again = Markup("{} writes them beside the record.").format(code("python -m cli test"))
    return [*without(untested, "not tested yet"), *without(old, "the test left no scores of single images", again)]


def overview(runs: Runs) -> Section:
    """Who is who."""
    scores = [[run.tested.metric("dsb_score") if run.tested else None] for run in runs]
    best = best_of(scores, ["dsb_score"])
    rows = []
    for run, score in zip(runs, scores, strict=True):
        extent = trained(Run(run.label, run.fit, {}), None) if run.fit else "no record of the training"
        parts = [run.argument("model", "init_args", part) for part in ("network", "representation")]
        parts = [name for part in parts if (name := _class(part))]
        model = f"{_class(run.argument('model')) or '?'}{': ' if parts else ''}{', '.join(parts)}"
        size = f"{run.fit['parameters']:,}" if run.fit else NONE
        rows.append([named(run), model, data_set(run), extent, size, *cells_of(score, ["dsb_score"], best)])
    header = ["run", "model", "data", "trained", "parameters", "DSB score"]
    about = (
        "The DSB score is TP / (TP + FP + FN) of the objects, the mean over the IoU thresholds .50, .55 … .95 and over "
        "images; AP(t) is the same ratio at one threshold, pooled over images. Every figure is computed at the images' "
        "original size."
    )
    return Section("runs", "The runs", [Table("Runs of this report", header, rows, words=4), Note(about)])


def data_set(run: ReportedRun) -> str:
    """What a run was tested on, in the words of ``results/references.yaml`` where that knows it."""
    name, arguments = _class(run.argument("data")), run.argument("data", "init_args") or {}
    if name == "DSB2018DataModule" and arguments.get("manifest"):
        if arguments.get("test_fraction") or arguments.get("split_manifest"):
            fluorescence = arguments.get("kinds") == ["fluorescence"]
            return "DSB2018 fluorescence subset" if fluorescence else "DSB2018, images held out"
        return "DSB2018 stage 2, 106 images" if arguments.get("test_set") == "stage2" else "DSB2018"
    if name == "ISBI2012DataModule" and arguments.get("manifest"):
        return "ISBI 2012"
    return (name or "unknown").removesuffix("DataModule") + (f", {arguments['root']}" if "root" in arguments else "")


def _class(node: Any) -> str:
    """The name of a class that a config names."""
    path = node.get("class_path", "") if isinstance(node, dict) else str(node or "")
    return path.rpartition(".")[2]


def learning(runs: Runs) -> Section:
    """Loss and monitored figure over the steps."""
    section = Section("learning", "Learning curves")
    if curved := [run for run in runs if any(name in run.curves for name in ("train/loss_epoch", "train/loss_step"))]:
        alt = f"Loss of training and validation over the steps of {', '.join(run.label for run in curved)}."
        caption = "Losses of different representations are on different scales: compare a run with itself."
        section.blocks.append(Drawn(losses(curved, alt), caption))
    watched = [(run, name, best) for run in runs for name, best in [_best_step(run)] if name in run.curves]
    if watched:
        tops = [(run, dict(zip(*run.curves[name], strict=True))[best], best) for run, name, best in watched]
        bests = [f"{run.label}: {value:.4f} at step {step:,}" for run, value, step in tops]
        alt = f"The monitored figure over the steps; the best of {'; '.join(bests)}."
        caption = f"What decides which checkpoint is the best, ringed. {'; '.join(bests)}."
        section.blocks.append(Drawn(monitored(watched, alt), caption))
    section.blocks += without([run for run in runs if run not in curved], "no curve of a training was recorded")
    return section


def _best_step(run: ReportedRun) -> tuple[str, int]:
    name = run.argument("checkpoint", "monitor") or "val/dsb_score"
    steps, values = run.curves.get(name, ([0], [0.0]))
    sign = -1 if run.argument("checkpoint", "mode") == "min" else 1
    return name, steps[int(np.nan_to_num(sign * np.array(values), nan=-np.inf).argmax())]


def types(runs: Runs) -> Section:
    """Figures of each image type."""
    section = Section("types", "Image types")
    tested = [run for run in runs if run.tested]
    kinds = image_types([run.tested for run in tested if run.tested])
    if not kinds:
        section.blocks += [Note("No test has told image types apart."), *unscored(runs)]
        return section
    header = ["image type", "run", "images", "objects", *(FIGURES[metric] for metric in TYPE_METRICS)]
    rows = []
    for kind in kinds:
        figures = {run.place: [_of(run, metric, kind) for metric in TYPE_METRICS] for run in tested}
        best = best_of(list(figures.values()), TYPE_METRICS)
        for run in tested:
            images = str(run.images.of_kind(kind).sum()) if run.images else NONE
            objects = _of(run, "objects_true", kind)
            cells = cells_of(figures[run.place], TYPE_METRICS, best)
            rows.append([kind, named(run), images, NONE if objects is None else f"{objects:,.0f}", *cells])
    scored = [run for run in tested if run.images]
    if scored:
        means = [f"{run.label}, {kind}: {number(_of(run, 'dsb_score', kind))}" for kind in kinds for run in scored]
        alt = f"DSB score of every image; the means are {'; '.join(means)}."
        section.blocks.append(Drawn(strips(scored, kinds, alt), "A mark is an image, a bar the mean of a run."))
    section.blocks += [Table("Figures of each image type", header, rows, words=2), *unscored(runs)]
    return section


def _of(run: ReportedRun, metric: str, kind: str) -> float | None:
    return run.tested.metric(f"{metric}/{kind}") if run.tested else None


def best_of(figures: Sequence[Sequence[float | None]], metrics: Sequence[str]) -> list[float | None]:
    """The best of each metric, None where there is nothing to choose from."""
    best: list[float | None] = []
    for metric, column in zip(metrics, zip(*figures, strict=True), strict=True):
        values = [value for value in column if value is not None]
        least = "error" in metric
        best.append((min if least else max)(values) if len(values) > 1 else None)
    return best


def cells_of(
    figures: Sequence[float | None], metrics: Sequence[str], best: Sequence[float | None] | None = None
) -> list[str]:
    """Figures as text, the best of a column set off."""
    cells = [number(value, metric) for value, metric in zip(figures, metrics, strict=True)]
    tops = best or [None] * len(cells)
    return [
        strong(cell) if value is not None and value == top else cell
        for cell, value, top in zip(cells, figures, tops, strict=True)
    ]


def thresholds(runs: Runs) -> Section:
    """How the figures fall as the outlines have to be better."""
    section = Section("thresholds", "Precision over the IoU threshold")
    if scored := [run for run in runs if run.images]:
        panels: list[tuple[str, Callable[[ReportedRun], Any]]] = [
            ("TP / (TP + FP + FN), mean of images", _of_images(lambda images: images.per_threshold.mean(axis=0))),
            ("precision, TP / (TP + FP), pooled", _of_images(lambda images: _pooled(images, images.n_pred))),
            ("recall, TP / (TP + FN), pooled", _of_images(lambda images: _pooled(images, images.n_true))),
        ]
        values = {run.place: panels[0][1](run) for run in scored}
        ends = "; ".join(
            f"{run.label} from {values[run.place][0]:.3f} to {values[run.place][-1]:.3f}" for run in scored
        )
        alt = f"Three figures fall as the IoU threshold rises from .50 to .95; the first of them: {ends}."
        caption = "A match needs an IoU greater than the threshold. The mean of the first curve is the DSB score."
        section.blocks.append(Drawn(over_thresholds(scored, panels, alt, "thresholds"), caption))
        if len(kinds := sorted({kind for run in scored if run.images for kind in run.images.kinds if kind})) > 1:
            of_kinds = [(kind, _of_images(partial(_of_kind, kind=kind))) for kind in kinds]
            alt = f"TP / (TP + FP + FN) over the IoU threshold, for {', '.join(kinds)}."
            caption = "TP / (TP + FP + FN), the mean of the images of each type."
            section.blocks.append(Drawn(over_thresholds(scored, of_kinds, alt, "types-thresholds"), caption))
        header = ["run", *(f"{threshold:.2f}"[1:] for threshold in THRESHOLDS), "mean"]
        means = {run.place: [*values[run.place], values[run.place].mean()] for run in scored}
        rows = [[named(run), *(f"{value:.3f}" for value in means[run.place])] for run in scored]
        section.blocks.append(Table("TP / (TP + FP + FN) at each IoU threshold, mean of images", header, rows))
    section.blocks += unscored(runs)
    return section


def _of_images(compute: Callable[[ImageScores], Any]) -> Callable[[ReportedRun], Any]:
    return lambda run: compute(run.images) if run.images else None


def _pooled(images: ImageScores, whole: Any) -> Any:
    return ratio(images.tp.sum(axis=0), whole.sum())


def _of_kind(images: ImageScores, kind: str) -> Any:
    chosen = images.of_kind(kind)
    return images.per_threshold[chosen].mean(axis=0) if chosen.any() else None
