"""The figure of RESULTS.md: published and measured scores side by side."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from cli.records import Run
from cli.references import References, System, how_trained
from cli.report_page import INK, MEASURED, PALE, PUBLISHED, STYLE

DASHES = (0, (4, 3))
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
    heights = [len(nuclei) + 2, max(len(membranes), len(bars)) + 2]
    with matplotlib.rc_context(fname=STYLE):
        figure = Figure(figsize=(14, 0.32 * sum(heights) + 1.5), dpi=120, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(2, 2, height_ratios=heights)
        _dots(axes[0, 0], nuclei, "accuracy", "Accuracy, nuclei (DSB2018)", by_id, references.baselines[NUCLEI])
        _dots(axes[0, 1], nuclei, "miou", "Mean IoU, nuclei (DSB2018)", by_id, {})
        _dots(
            axes[1, 0], membranes, "accuracy", "Accuracy, membranes (ISBI 2012)", by_id, references.baselines[MEMBRANES]
        )
        _bars(axes[1, 1], bars)
        figure.legend(handles=_legend(), loc="outside upper center", ncols=4, frameon=False)
        # Without the version of matplotlib, so that the same records give the same file for longer.
        figure.savefig(path, metadata={"Software": None})


def _legend() -> list[Line2D]:
    dots = [(PUBLISHED, PUBLISHED, "published"), (MEASURED, MEASURED, "Karyon")]
    dots.append((MEASURED, "white", "Karyon, trained in part"))
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=8, color=color, markerfacecolor=inside, label=label)
        for color, inside, label in dots
    ]
    return [*handles, Line2D([], [], color=INK, linestyle=DASHES, label="one class everywhere")]


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
    axes: Axes, systems: list[System], metric: str, title: str, by_id: dict[str, Run], baseline: dict[str, float]
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
            _value(axes, published, row, PUBLISHED, left=published < max(values))
        if measured is not None:
            inside = MEASURED if _in_full(system, by_id) else "white"
            axes.plot(measured, row, "o", color=MEASURED, markersize=7, markerfacecolor=inside, zorder=4)
            _value(axes, measured, row, MEASURED, left=measured < max(values))
    if baseline:
        axes.axvline(baseline[metric], color=INK, linewidth=0.9, linestyle=DASHES, zorder=1)
    _frame(axes, title, [_label(system) for system in systems])
    # Room for the number on the left of the lowest dot.
    axes.set_xlim(low - 0.25 * (1.02 - low), 1.02 + 0.08 * (1.02 - low))


def _label(system: System) -> str:
    return f"{system.section}  {system.model}"


def _in_full(system: System, by_id: dict[str, Run]) -> bool:
    return how_trained(by_id[system.id], system).startswith("full")


def _value(axes: Axes, value: float, row: float, color: str, left: bool = False) -> None:
    """Writes a value beside its mark."""
    place: dict[str, Any] = {"xytext": (-8 if left else 8, 0), "ha": "right" if left else "left", "va": "center"}
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    axes.annotate(f"{value:.3f}", (value, row), textcoords="offset points", color=color, bbox=box, **place)


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
        _value(axes, score, row, color)
    _frame(axes, "DSB score, nuclei (65 test images)", [label for label, *_ in bars])
    axes.set_xlim(0, max(score for _, score, *_ in bars) * 1.2)


def _frame(axes: Axes, title: str, labels: list[str]) -> None:
    """Titles a panel and names its rows, the first of them uppermost."""
    axes.set_title(title)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.7)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.grid(axis="y", visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
