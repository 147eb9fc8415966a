"""The tables and figures of a report, and the page that shows them."""

import base64
import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from PIL import Image, UnidentifiedImageError

from cli.records import FIGURES, THRESHOLDS
from cli.references import References
from cli.report import TYPE_METRICS, ReportedRun, by_type, costs, measured, overview
from karyon.commands.console import NONE, counted, number
from karyon.errors import DataError
from karyon.io.file_names import file_stem

Runs = Sequence[ReportedRun]

INK, PALE, PUBLISHED, MEASURED = "#2f3640", "#dfe3e7", "#7d8793", "#d1495b"
STYLE = Path(__file__).with_name("figures.mplstyle")
# Of each run in turn, told apart on grey paper by its marker and its line too.
COLOURS = ("#c8374d", "#2a6f97", "#a86a10", "#2f8f6b", "#7a5ba6", "#8a5a44")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1)), (0, (8, 3)))
WIDTH = 9.6  # inches, of a figure
# Larger than in the figures of sweeps and results, for a page has its own type beside it.
TYPE = 14  # pt
PICTURE_WIDTH = 1280  # px
LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "train/loss_step": ("training, each step", {"linewidth": 0.6, "alpha": 0.4}),
    "train/loss_epoch": ("training, mean of an epoch", {"linewidth": 1.6}),
    "val/loss": ("validation", {"color": INK, "linestyle": "--", "marker": "o", "markersize": 3}),
}


def render(title: str, runs: Runs, references: References | None) -> str:
    """The page, which holds all that it needs.

    Args:
        title: of the page.
        runs: in their order.
        references: the published scores, where they are at hand.

    Raises:
        DataError: a picture that a test has drawn cannot be read.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown: list[Callable[..., Any]] = [overview, measured, beside, by_type, thresholds, every_image, costs, examples]
    shown += [losses, monitored, strips, over_thresholds, calibration, yaml.safe_dump]
    environment.globals.update({function.__name__: function for function in shown})
    environment.globals.update(THRESHOLDS=[f"{threshold:.2f}"[1:] for threshold in THRESHOLDS])
    environment.globals.update(type_header=[FIGURES[metric] for metric in TYPE_METRICS[1:]], COLOURS=COLOURS)
    template = environment.get_template("report.html")
    with matplotlib.rc_context({"font.size": TYPE, "axes.titlesize": TYPE}, STYLE):
        return template.render(title=title, runs=runs, references=references, now=datetime.now(UTC))


def beside(runs: Runs, references: References, data: str) -> dict[str, Any]:
    """Runs and published systems in one table and one figure, by the metrics that were published; {} if there are none.

    Args:
        runs: tested on the data.
        references: what was published.
        data: name of the data set there.
    """
    published = references.published(data)
    metrics = [metric for metric in FIGURES if any(metric in values for *_, values in published)]
    metrics = [metric for metric in metrics if any(run.metric(metric) is not None for run in runs)]
    if not metrics:
        return {}
    rows: list[list[Any]] = [[run, "this report", *(number(run.metric(m), m) for m in metrics)] for run in runs]
    for model, who, values in sorted(published, key=lambda other: [-other[2].get(metric, -1.0) for metric in metrics]):
        if any(metric in values for metric in metrics):
            rows.append([model, who, *(f"{values[metric]:g}" if metric in values else NONE for metric in metrics)])
    first = metrics[0]
    bars = [(run.label, run.metric(first), COLOURS[run.place % len(COLOURS)]) for run in runs]
    bars += [(model, values.get(first), PUBLISHED) for model, _, values in published]
    return {"header": [FIGURES[metric] for metric in metrics], "rows": rows, "figure": _bars(bars, FIGURES[first])}


def examples(run: ReportedRun) -> list[tuple[str, str]]:
    """The best, the median and the worst of the images that a test has drawn, each with its caption."""
    images = run.images
    if images is None:
        return []
    named = [f"{score:.3f}-{file_stem(name)}.png" for name, score in zip(images.names, images.scores, strict=True)]
    paths = [run.evaluated / "overlays" / name for name in named]
    drawn = [k for k in np.argsort(-images.scores, kind="stable").tolist() if paths[k].is_file()]
    if not drawn:
        return []
    middle = min(drawn[1:-1] or drawn, key=lambda k: abs(images.scores[k] - np.median(images.scores)))
    # With fewer than three, one image stands for several.
    roles = {middle: "Median", drawn[-1]: "Worst", drawn[0]: "Best"}
    shown = []
    for k in sorted(roles, key=drawn.index):
        rank, (height, width) = 1 + int((images.scores > images.scores[k]).sum()), images.sizes[k]
        said = f"{roles[k]}: DSB score {images.scores[k]:.3f}, {rank} of {len(images.names)}. "
        said += (
            f"{images.types[k] or 'unknown type'}, {height} x {width} px, {counted(int(images.n_true[k]), 'object')}, "
        )
        shown.append((_embedded(paths[k]), f"{said}{images.n_pred[k]} predicted. {images.names[k]}"))
    return shown


def _embedded(path: Path) -> str:
    """A picture as the address of its own content, shrunk to the width of the page."""
    try:
        with Image.open(path) as file:
            picture = file.convert("RGB")
    except (OSError, UnidentifiedImageError):
        raise DataError(f"{path} is not a readable picture: delete it, or test the run again.") from None
    picture.thumbnail((PICTURE_WIDTH, 4 * PICTURE_WIDTH))
    content = io.BytesIO()
    # Colour in full resolution: outlines are one pixel wide.
    picture.save(content, "JPEG", quality=85, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


def thresholds(runs: Runs) -> list[list[Any]]:
    """TP / (TP + FP + FN) at each IoU threshold, and its mean."""
    means = [(run, run.images.per_threshold.mean(axis=0)) for run in runs if run.images]
    return [[run, *(f"{value:.3f}" for value in (*ten, ten.mean()))] for run, ten in means]


def every_image(runs: Runs) -> list[list[str]]:
    """Name, type, size, objects and the DSB score by each run of every image."""
    facts: dict[str, list[str]] = {}
    scores: dict[str, dict[int, str]] = {}
    for run in runs:
        if images := run.images:
            for k, name in enumerate(images.names):
                facts.setdefault(name, [images.types[k], *map(str, (*images.sizes[k], images.n_true[k]))])
                scores.setdefault(name, {})[run.place] = f"{images.scores[k]:.3f}"
    return [[name, *facts[name], *(scores[name].get(run.place, NONE) for run in runs)] for name in facts]


def _look(run: ReportedRun) -> dict[str, Any]:
    """How the lines of a run are drawn."""
    k = run.place % len(COLOURS)
    return {"color": COLOURS[k], "linestyle": DASHES[k], "marker": MARKERS[k], "markersize": 5, "linewidth": 1.5}


def _panels(count: int, columns: int, height: float, shared: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure of some panels, each of a height in inches."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure((WIDTH, height * rows + 0.4), layout="constrained")
    FigureCanvasSVG(figure)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=shared).ravel().tolist()
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def _svg(figure: Figure, runs: Runs = (), entries: Sequence[Line2D] = ()) -> str:
    """The figure as the address of its own content, with a legend of runs and other lines above its panels."""
    if handles := [*(Line2D([], [], label=run.label, **_look(run)) for run in runs), *entries]:
        widest = 0.8 + 0.13 * max(len(str(handle.get_label())) for handle in handles)  # inches
        figure.legend(handles=handles, loc="outside upper left", ncols=max(1, int(WIDTH / widest)))
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Creator": None, "Date": None}, bbox_inches="tight")
    return "data:image/svg+xml;base64," + base64.b64encode(content.getvalue()).decode()


def _steps(axes: Axes, ylabel: str) -> None:
    axes.set(xlabel="step", ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def losses(runs: Runs) -> str:
    """The loss of training and validation over the steps, a panel a run."""
    figure, panels = _panels(len(runs), 2, 2.6)
    for axes, run in zip(panels, runs, strict=True):
        _steps(axes, "loss")
        axes.set_title(run.label)
        for name, (_, style) in LOSSES.items():
            if name in run.curves:
                axes.plot(*run.curves[name], **{"color": _look(run)["color"]} | style)
        values = [v for name in ("train/loss_epoch", "val/loss") for v in run.curves.get(name, ((), ()))[1]]
        if values := [value for value in values if np.isfinite(value)]:
            # The noise of single steps may leave the panel.
            margin = 0.15 * (max(values) - min(values) or 1)
            axes.set_ylim(min(values) - margin, max(values) + margin)
    return _svg(figure, entries=[Line2D([], [], label=label, **{"color": INK} | s) for label, s in LOSSES.values()])


def monitored(runs: Runs) -> str:
    """The monitored metric of each run over the steps, a panel a metric; the best value is ringed."""
    watched = [(run, *run.best_step) for run in runs if run.best_step]
    names = list(dict.fromkeys(name for _, name, *_ in watched))
    figure, panels = _panels(len(names), 2, 3.2)
    for run, name, step, value in watched:
        axes, metric = panels[names.index(name)], name.removeprefix("val/")
        _steps(axes, f"validation: {FIGURES.get(metric, metric)}")
        axes.plot(*run.curves[name], **_look(run))
        axes.plot(step, value, "o", markersize=12, markerfacecolor="none", color=_look(run)["color"])
    return _svg(figure, [run for run, *_ in watched])


def _bars(entries: Sequence[tuple[str, float | None, str]], title: str) -> str:
    """Label, value and colour of bars, the greatest first."""
    ranked = sorted(((label, v, colour) for label, v, colour in entries if v is not None), key=lambda bar: bar[1])
    figure, (axes,) = _panels(1, 1, 0.42 * len(ranked) + 0.5)
    labels, values, colours = zip(*ranked, strict=True)
    axes.bar_label(axes.barh(range(len(ranked)), values, 0.65, color=colours), fmt="%.3f", padding=4)
    axes.set_yticks(range(len(ranked)), labels)
    axes.set(xlabel=title, xlim=(0, 1.12 * max(values)), ylim=(-0.6, len(ranked) - 0.4))
    axes.grid(axis="y", visible=False)
    return _svg(figure)


def strips(runs: Runs) -> str:
    """The score of every image, a panel an image type and a row a run; a bar marks the mean."""
    types = sorted({image_type for run in runs if run.images for image_type in run.images.types})
    figure, panels = _panels(len(types), 2, 0.4 * len(runs) + 1, shared=True)
    for axes, image_type in zip(panels, types, strict=True):
        for row, run in enumerate(runs):
            scores = run.images.scores[run.images.of(image_type)] if run.images else np.empty(0)
            # Multiples of the golden ratio spread evenly, however many there are.
            spread = (np.arange(len(scores)) * 0.618034 % 1 - 0.5) * 0.55
            axes.plot(scores, row + spread, **_look(run) | {"linestyle": "", "alpha": 0.6, "markeredgewidth": 0})
            if len(scores):
                axes.plot([scores.mean()] * 2, [row - 0.4, row + 0.4], color=INK, linewidth=2)
        axes.set(title=image_type or "all", xlim=(-0.02, 1.02), xlabel="DSB score of an image")
        axes.set_yticks(range(len(runs)), [run.label for run in runs])
        axes.set_ylim(len(runs) - 0.45, -0.55)
    return _svg(figure)


def over_thresholds(runs: Runs) -> str:
    """Three scores over the IoU threshold."""
    titles = ("TP / (TP + FP + FN)", "precision, pooled", "recall, pooled")
    figure, panels = _panels(3, 3, 3, shared=True)
    for run in runs:
        if images := run.images:
            tp = images.tp.sum(axis=0)
            pooled = [tp / max(count.sum(), 1) for count in (images.n_pred, images.n_true)]
            for axes, title, ten in zip(panels, titles, (images.per_threshold.mean(axis=0), *pooled), strict=True):
                axes.plot(THRESHOLDS, ten, **_look(run))
                axes.set(title=title, xlabel="IoU threshold", xlim=(0.48, 0.97), ylim=(0, 1))
    return _svg(figure, [run for run in runs if run.images])


def calibration(runs: Runs) -> dict[str, Any]:
    """Whether the scores of objects are the probabilities that they are right: a figure and a table."""
    # Imports Lightning, as sweeps and results, which draw in the style of this module, need not.
    from karyon.metrics.calibration import calibration_error, reliability

    figure, (axes,) = _panels(1, 1, 4.5)
    axes.plot([0, 1], [0, 1], "--", color=PUBLISHED)
    axes.set(xlabel="mean score of a group of objects", ylabel="share that matches a true object")
    rows: list[list[Any]] = []
    for run in runs:
        assert run.objects is not None, "chosen for having some"
        scores, right = run.objects[:, 0], run.objects[:, 1] > 0.5
        curve = reliability(scores, right)
        share = curve.right / curve.total
        bounds = np.array([_wilson(*counts) for counts in zip(curve.right, curve.total, strict=True)]).T
        axes.errorbar(curve.score, share, abs(bounds - share), capsize=3, **_look(run))
        verdict = "overconfident" if scores.mean() > right.mean() else "underconfident"
        low, high = _wilson(right.sum(), len(right))
        values = [f"{scores.mean():.3f}", f"{right.mean():.3f}", f"{low:.3f} to {high:.3f}"]
        rows.append([run, verdict, f"{len(right):,}", *values, f"{calibration_error(curve):.3f}"])
    expected = Line2D([], [], label="perfectly calibrated", color=PUBLISHED, linestyle="--")
    return {"figure": _svg(figure, runs, [expected]), "rows": rows}


def _wilson(right: int, total: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share."""
    from scipy.stats import binomtest

    bounds = binomtest(int(right), int(total)).proportion_ci(method="wilson")
    return bounds.low, bounds.high
