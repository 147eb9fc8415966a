"""The figure of RESULTS.md: published and measured scores side by side."""

from functools import partial
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from cli.results_records import References, Run, System, trained

INK, PALE, PUBLISHED, MEASURED = "#2f3640", "#e3e6ea", "#7d8793", "#d1495b"
DASHES = (0, (4, 3))
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
}
NUCLEI, MEMBRANES = "DSB2018", "ISBI 2012"


def draw(references: References, runs: list[Run], path: Path) -> None:
    """Draws accuracy, mean IoU and DSB score, published and measured, into a PNG.

    Args:
        references: published systems and public figures.
        runs: ours, any number of them.
        path: of the picture.
    """
    by_id = {run.id: run for run in runs}
    nuclei, membranes = (_plotted(references, data, by_id) for data in (NUCLEI, MEMBRANES))
    bars = _score_bars(references, by_id)
    heights = [len(nuclei) + 1, max(len(membranes), len(bars)) + 1]
    with matplotlib.rc_context(STYLE):
        height = 0.29 * sum(heights) + 1.9
        layout = ConstrainedLayoutEngine(
            w_pad=0.15, h_pad=0.1, wspace=0.02, hspace=0.04, rect=(0, 0, 1, 1 - 0.45 / height)
        )
        figure = Figure(figsize=(11, height), dpi=150, facecolor="white", layout=layout)
        FigureCanvasAgg(figure)
        axes = figure.subplots(2, 2, height_ratios=heights)
        baselines = references.baselines
        _dots(axes[0, 0], nuclei, "accuracy", "Accuracy, nuclei (DSB2018)", by_id, baselines[NUCLEI])
        _dots(axes[0, 1], nuclei, "miou", "Mean IoU, nuclei (DSB2018)", by_id, {})
        _dots(axes[1, 0], membranes, "accuracy", "Accuracy, membranes (ISBI 2012)", by_id, baselines[MEMBRANES])
        _bars(axes[1, 1], bars)
        _head(figure)
        # Without the version of matplotlib, so that the same records give the same file for longer.
        figure.savefig(path, metadata={"Software": None})


def _plotted(references: References, data: str, by_id: dict[str, Run]) -> list[System]:
    """The systems of a data set that have an accuracy or a mean IoU, published or measured."""

    def has_figure(system: System) -> bool:
        return any(_pair(system, by_id, metric) != (None, None) for metric in ("accuracy", "miou"))

    return [system for system in references.systems if system.data == data and has_figure(system)]


def _pair(system: System, by_id: dict[str, Run], metric: str) -> tuple[float | None, float | None]:
    """The published and the measured figure."""
    run = by_id.get(system.id)
    return system.published.get(metric), run.metric(metric) if run else None


def _dots(
    axes: Axes, systems: list[System], metric: str, title: str, by_id: dict[str, Run], baseline: dict[str, Any]
) -> None:
    """A row a system: a grey dot for the published figure, a red one for ours, and the way between them."""
    low = baseline.get(metric, 1.0)
    for row, system in enumerate(systems):
        published, measured = _pair(system, by_id, metric)
        values = [value for value in (published, measured) if value is not None]
        if not values:
            continue
        low = min(low, *values)
        axes.plot([min(values), max(values)], [row, row], color=PALE, linewidth=3, solid_capstyle="round", zorder=1)
        if published is not None:
            axes.plot(published, row, "o", color=PUBLISHED, markersize=9, zorder=3)
            _value(axes, published, row, left=published < max(values), color=PUBLISHED)
        if measured is not None:
            inside = MEASURED if _in_full(system, by_id) else "white"
            axes.plot(measured, row, "o", color=MEASURED, markersize=6, markerfacecolor=inside, zorder=4)
            _value(axes, measured, row, left=measured < max(values), color=MEASURED)
    if baseline:
        axes.axvline(baseline[metric], color=INK, linewidth=0.9, linestyle=DASHES, zorder=1)
        axes.text(baseline[metric], -1, f" {baseline['what']}", fontsize=8, va="center", style="italic")
    several = len({system.section for system in systems}) > 1
    frame(axes, title, [_label(system) if several else system.model for system in systems], top=-1.5)
    # Room for the number on the left of the lowest dot.
    axes.set_xlim(low - 0.2 * (1.02 - low), 1.02)


def _label(system: System) -> str:
    return f"{system.section}  {system.model}"


def _in_full(system: System, by_id: dict[str, Run]) -> bool:
    return trained(by_id[system.id], system.schedule).startswith("full")


def _value(axes: Axes, value: float, row: float, left: bool, color: str) -> None:
    axes.annotate(
        f"{value:.3f}",
        (value, row),
        (-7 if left else 7, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="center",
        color=color,
        fontsize=8,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    )


def _score_bars(references: References, by_id: dict[str, Run]) -> list[tuple[str, float, str, bool]]:
    """Label, DSB score, colour and whether trained in full, of public figures and of ours; the best first."""
    public = [entry for entry in references.public if entry["data"] == NUCLEI and "dsb_score" in entry["figures"]]
    bars = [(str(entry["model"]), entry["figures"]["dsb_score"], PUBLISHED, True) for entry in public]
    for system in references.systems:
        score = by_id[system.id].metric("dsb_score") if system.data == NUCLEI and system.id in by_id else None
        if score is not None:
            bars.append((_label(system), score, MEASURED, _in_full(system, by_id)))
    return sorted(bars, key=lambda bar: -bar[1])


def _bars(axes: Axes, bars: list[tuple[str, float, str, bool]]) -> None:
    for row, (_, score, color, full) in enumerate(bars):
        axes.barh(row, score, height=0.6, facecolor=color if full else "white", edgecolor=color, linewidth=1.2)
        _value(axes, score, row, left=False, color=color)
    frame(axes, "DSB score, nuclei (65 test images)", [label for label, *_ in bars], top=-0.7)
    for label, (_, _, color, _) in zip(axes.get_yticklabels(), bars, strict=True):
        label.set_color(MEASURED if color == MEASURED else INK)
    axes.set_xlim(0, max(score for _, score, *_ in bars) * 1.12)


def frame(axes: Axes, title: str, labels: list[str], top: float) -> None:
    """Titles a panel and names its rows, the first of them uppermost.

    Args:
        axes: of the panel.
        title: of the panel.
        labels: of the rows 0, 1 ...
        top: where the panel begins, in rows; negative, to leave room above the first.
    """
    axes.set_title(title)
    axes.set_yticks(range(len(labels)), [fill(label, 34) for label in labels])
    axes.set_ylim(len(labels) - 0.4, top)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.grid(axis="x", color=PALE, linewidth=0.8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _head(figure: Figure) -> None:
    figure.text(0.012, 0.985, "Published and measured", fontsize=14, fontweight="bold", va="top")
    dot = partial(Line2D, [], [], marker="o", linestyle="")
    handles = [
        dot(color=PUBLISHED, markersize=9, label="published"),
        dot(color=MEASURED, markersize=6, label="Karyon"),
        dot(color=MEASURED, markersize=6, markerfacecolor="white", label="Karyon, trained in part"),
        Line2D([], [], color=INK, linewidth=0.9, linestyle=DASHES, label="one class everywhere"),
    ]
    figure.legend(handles=handles, loc="upper right", ncols=4, frameon=False, bbox_to_anchor=(0.995, 0.995))
