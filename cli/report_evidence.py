"""What lies behind the figures of a report: images, scores of objects, time and memory, and where all is from."""

from collections.abc import Sequence

import numpy as np
import yaml

from cli.report_figures import calibration
from cli.report_page import Block, Drawn, Heading, Listing, Note, Picture, Section, Table, code, embedded, named
from cli.report_runs import ReportedRun
from cli.report_sections import unscored, without
from cli.results_page import NONE, duration, seconds
from lightning_modules.formats.folder import file_stem
from lightning_modules.metrics.calibration import Reliability, calibration_error, reliability

Runs = Sequence[ReportedRun]


def examples(runs: Runs) -> Section:
    """The best, the median and the worst image of each run, and the score of every image."""
    section = Section("images", "Best, median and worst images")
    scored = [run for run in runs if run.images]
    if scored:
        section.blocks.append(
            Note(
                "From left to right: input, annotation, result, in which white lines are the outlines of the "
                "annotation. Of the images that the test has drawn, these are the best, the one nearest to the median "
                "of all images, and the worst."
            )
        )
    undrawn = []
    for run in scored:
        pictures = _pictures(run)
        section.blocks += [Heading(run.label), *pictures] if pictures else []
        undrawn += [] if pictures else [run]
    section.blocks += [*without(undrawn, "the test has drawn no images"), *unscored(runs)]
    if scored:
        section.blocks.append(_every_image(scored))
    return section


def _pictures(run: ReportedRun) -> list[Block]:
    images = run.images
    assert images is not None, "chosen for having some"
    paths = [
        run.evaluated / "overlays" / f"{score:.3f}-{file_stem(name)}.png"
        for name, score in zip(images.names, images.scores, strict=True)
    ]
    drawn = [k for k in np.argsort(-images.scores, kind="stable").tolist() if paths[k].is_file()]
    if not drawn:
        return []
    middle = min(drawn[1:-1] or drawn, key=lambda k: abs(images.scores[k] - np.median(images.scores)))
    # With fewer than three, one image stands for several.
    roles = {middle: "Median", drawn[-1]: "Worst", drawn[0]: "Best"}
    pictures: list[Block] = []
    for k in sorted(roles, key=drawn.index):
        rank = 1 + int((images.scores > images.scores[k]).sum())
        size = " x ".join(str(length) for length in images.sizes[k])
        facts = f"{images.kinds[k] or 'unknown type'}, {size} px, {images.n_true[k]} objects, {images.n_pred[k]} found"
        caption = (
            f"{roles[k]}: DSB score {images.scores[k]:.3f}, {rank} of {len(images.names)}. {facts}. {images.names[k]}"
        )
        alt = f"{roles[k]} image of {run.label}, input beside annotation and result: {facts}."
        pictures.append(Picture(embedded(paths[k]), alt, caption))
    return pictures


def _every_image(runs: Runs) -> Table:
    header = ["image", "type", "height", "width", "objects", *(run.label for run in runs)]
    facts: dict[str, list[str]] = {}
    scores: dict[str, dict[int, str]] = {}
    for run in runs:
        images = run.images
        assert images is not None, "chosen for having some"
        for k, name in enumerate(images.names):
            facts.setdefault(name, [images.kinds[k], *(str(n) for n in (*images.sizes[k], images.n_true[k]))])
            scores.setdefault(name, {})[run.place] = f"{images.scores[k]:.3f}"
    rows = [[name, *facts[name], *(scores[name].get(run.place, NONE) for run in runs)] for name in facts]
    return Table("DSB score of every image", header, rows, words=2, folded=f"Every image ({len(rows):,})")


def calibrated(runs: Runs) -> Section:
    """Whether the scores of objects are the probabilities that they are right."""
    section = Section("calibration", "Calibration of the objects' scores")
    curves: list[tuple[ReportedRun, Reliability]] = []
    rows = []
    for run in runs:
        if run.objects is None or len(run.objects.scores) == 0:
            continue
        right = run.objects.ious > 0.5
        curve = reliability(run.objects.scores, right)
        curves.append((run, curve))
        mean, share = run.objects.scores.mean(), right.mean()
        verdict = "too sure" if mean > share else "not sure enough"
        figures = [f"{value:.3f}" for value in (mean, share, calibration_error(curve))]
        rows.append([named(run), verdict, f"{len(right):,}", *figures])
    if curves:
        section.blocks.append(
            Note(
                "A score is calibrated where of all objects with a score of .8 four in five are right: they match a "
                "true object with an IoU greater than .5. The objects of all images are put into ten groups of equal "
                "size by their score; vertical lines are 95 % intervals. Below the diagonal a model is too sure."
            )
        )
        alt = "Reliability: " + "; ".join(
            f"{run.label}, " + ", ".join(f"{r / n:.2f} right at {s:.2f}" for s, r, n in zip(*curve, strict=True))
            for run, curve in curves
        )
        section.blocks.append(Drawn(calibration(curves, f"{alt}."), "Scores against how often they are right."))
        header = ["run", "on the whole", "objects found", "mean score", "share right", "expected calibration error"]
        section.blocks.append(Table("Mean score beside the share that is right", header, rows, words=2))
    found = {run.place for run, _ in curves}
    empty = [run for run in runs if run.objects is not None and run.place not in found]
    section.blocks += [*without(empty, "the test has found no objects"), *unscored(runs)]
    return section


def costs(runs: Runs) -> Section:
    """What training and testing took."""
    rows = []
    for run in runs:
        fit, test = run.fit or {}, run.tested.test if run.tested else {}
        rate = f"{fit['steps'] / fit['wall_s']:.2f}" if fit.get("wall_s") else NONE
        took = duration(fit["wall_s"]) if fit else NONE
        steps = f"{fit['steps']:,}" if fit else NONE
        images = seconds(run.tested) if run.tested else NONE
        hardware = fit.get("hardware") or test.get("hardware") or NONE
        rows.append([named(run), hardware, steps, took, rate, images, *(_memory(record) for record in (fit, test))])
    header = ["run", "hardware", "steps", "training", "steps a second", "s a test image"]
    table = Table("What training and test took", [*header, "GiB, training", "GiB, test"], rows, words=2)
    about = (
        "Steps a second include validation; the time of a test image is that of network and decoding on the machine of "
        "the test. Memory is the most that the process held, without the workers of data loaders; behind a plus sign "
        "that of the GPU. A test that follows its training at once inherits the training's peak."
    )
    silent = [run for run in runs if (run.fit or run.tested) and {rows[run.place][-1], rows[run.place][-2]} == {NONE}]
    section = Section("costs", "Time and memory", [table, Note(about)])
    section.blocks += without(silent, "peak memory was not recorded", "Runs tested anew record it.")
    return section


def _memory(record: dict[str, float]) -> str:
    """The peak of the main memory, and of the GPU's."""
    values = [record[key] for key in ("peak_memory_gib", "peak_gpu_memory_gib") if key in record]
    return " + ".join(f"{value:.2f}" for value in values) or NONE


def provenance(runs: Runs) -> Section:
    """What is needed to repeat or to doubt each figure."""
    section = Section("provenance", "Provenance")
    for run in runs:
        rows = []
        for stage, record in (("training", run.fit), ("test", run.tested.test if run.tested else None)):
            if record:
                facts = [record[key] for key in ("commit", "seed", "hardware", "date")]
                rows.append([stage, code(record["command"]), *(str(fact) for fact in facts)])
        section.blocks.append(Heading(run.label))
        if rows:
            header = ["stage", "command", "commit", "seed", "hardware", "date"]
            section.blocks.append(Table(f"From {run.folder}", header, rows, words=6))
        else:
            section.blocks.append(Note(f"{run.folder} holds no record: the training has not ended."))
        if run.config:
            text = yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)
            section.blocks.append(Listing("The resolved config", text))
    return section
