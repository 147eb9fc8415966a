"""The figures of a report, as SVG that takes its colours and its font from the page."""

import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from scipy.stats import binomtest

from cli.report_runs import ReportedRun
from cli.results_figure import INK, PALE, PUBLISHED, STYLE
from cli.results_page import FIGURES
from lightning_modules.metrics import THRESHOLDS
from lightning_modules.metrics.calibration import Reliability

# Of each run in turn, told apart on grey paper by its marker and its line too. The page has its own shades of them.
COLOURS = ("#c8374d", "#2a6f97", "#b7791f", "#2f8f6b", "#7a5ba6", "#8a5a44")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1)), (0, (8, 3)))
BAR = "#b8bfc6"
SHADES = {INK: "--ink", PALE: "--line", PUBLISHED: "--muted", BAR: "--bar"}
SHADES |= {colour: f"--series-{index}" for index, colour in enumerate(COLOURS)}
LOSSES: dict[str, dict[str, Any]] = {
    "train/loss_step": {"linewidth": 0.6, "alpha": 0.4},
    "train/loss_epoch": {"linewidth": 1.6},
    "val/loss": {"color": INK, "linewidth": 1.1, "linestyle": (0, (5, 2)), "marker": "o", "markersize": 3},
}
EXPECTED: dict[str, Any] = {"color": PUBLISHED, "linewidth": 0.9, "linestyle": (0, (4, 3))}
WIDTH = 9.6  # inches; a figure fills the page's width
# Its multiples, modulo 1, fill the unit interval evenly, however many there are.
GOLDEN_RATIO = (1 + 5**0.5) / 2


def look(run: ReportedRun) -> dict[str, Any]:
    """How the lines of a run are drawn."""
    k = run.place % len(COLOURS)
    return {"color": COLOURS[k], "linestyle": DASHES[k], "marker": MARKERS[k], "markersize": 4, "linewidth": 1.4}


@dataclass(frozen=True)
class Drawing:
    """A figure of panels, which becomes SVG at the end."""

    name: str
    figure: Figure
    panels: list[Axes]

    def legend(self, entries: Sequence[Line2D]) -> None:
        """Explains the lines, above all panels."""
        # In inches; the layout does not see to the width of a legend.
        widest = 0.6 + 0.08 * max(len(str(entry.get_label())) for entry in entries)
        columns = max(1, min(len(entries), int(self.figure.get_figwidth() / widest)))
        self.figure.legend(handles=entries, loc="outside upper left", ncols=columns, frameon=False)

    def svg(self, alt: str) -> str:
        """The picture as an element of HTML, described by ``alt``."""
        file = io.StringIO()
        # No date and no version of matplotlib, and with nothing else to say, no metadata.
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        self.figure.savefig(file, format="svg", metadata=nothing)
        return _for_page(file.getvalue(), self.name, alt)


@contextmanager
def drawing(name: str, count: int, columns: int, size: tuple[float, float], **kwargs: Any) -> Iterator[Drawing]:
    """Begins a figure, which must be drawn and turned into SVG inside the context.

    Args:
        name: unlike those of the other figures of the page; its parts are called after it.
        count: of panels.
        columns: of panels, at most.
        size: width and height of a panel, inches.
        kwargs: of matplotlib's `subplots`.
    """
    columns = min(columns, count)
    rows = -(-count // columns)
    style = {"svg.fonttype": "none", "svg.hashsalt": name, "axes.titlesize": 9.5, "text.parse_math": False}
    with matplotlib.rc_context(STYLE | style):
        layout = ConstrainedLayoutEngine(wspace=0.05)
        figure = Figure((size[0] * columns, size[1] * rows + 0.35), layout=layout, facecolor="none")
        FigureCanvasSVG(figure)
        panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False, **kwargs).ravel())
        for axes in panels[count:]:
            axes.remove()
        yield Drawing(name, figure, panels[:count])


def _for_page(text: str, name: str, alt: str) -> str:
    """Takes from an SVG file what belongs to a file only, and gives it the page's colours and font."""
    root = ElementTree.fromstring(text)
    width = float(root.attrib.pop("width").removesuffix("pt"))
    del root.attrib["height"]
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key, value in list(element.attrib.items()):
            del element.attrib[key]
            element.attrib[key.rpartition("}")[2]] = _attribute(key, value, name)
    root.attrib |= {"role": "img", "aria-label": alt, "style": f"max-width: {width / 72:.2f}in"}
    return ElementTree.tostring(root, encoding="unicode")


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key.endswith("href"):
        return value.replace("#", f"#{name}-", 1)
    value = re.sub(r"url\(#", f"url(#{name}-", value)
    for colour, variable in SHADES.items():
        value = value.replace(colour, f"var({variable})")
    return re.sub(r"'DejaVu Sans'[^;]*", "var(--sans)", value)


def panel(axes: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """Titles a panel, names its axes and leaves out what is not needed to read it."""
    axes.set_title(title, pad=6)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color=PALE, linewidth=0.6)
    axes.tick_params(length=0)
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)


def legend_of(runs: Iterable[ReportedRun]) -> list[Line2D]:
    """The entries that tell the runs apart."""
    return [Line2D([], [], label=run.label, **look(run)) for run in runs]


def losses(runs: Sequence[ReportedRun], alt: str) -> str:
    """The loss of training and validation over the steps, a panel a run."""
    with drawing("losses", len(runs), 3, (WIDTH / 3, 2.3)) as figure:
        for axes, run in zip(figure.panels, runs, strict=True):
            panel(axes, run.label, "step", "loss")
            _count_steps(axes)
            for name, style in LOSSES.items():
                if curve := run.curves.get(name):
                    axes.plot(*curve, **({"color": look(run)["color"]} | style))
            curves = [run.curves[name] for name in ("train/loss_epoch", "val/loss") if name in run.curves]
            if values := [value for _, curve in curves for value in curve if math.isfinite(value)]:
                # The noise of single steps may leave the panel.
                margin = 0.15 * (max(values) - min(values) or 1)
                axes.set_ylim(min(values) - margin, max(values) + margin)
        entries = zip(LOSSES.values(), ("training, a step", "training, mean of an epoch", "validation"), strict=True)
        figure.legend([Line2D([], [], label=label, **({"color": INK} | style)) for style, label in entries])
        return figure.svg(alt)


def monitored(runs: Sequence[tuple[ReportedRun, str, int]], alt: str) -> str:
    """The monitored figure of each run over the steps, a panel a figure.

    Args:
        runs: with the name of the figure, and the step of its best value.
        alt: describes it.
    """
    names = list(dict.fromkeys(name for _, name, _ in runs))
    with drawing("monitored", len(names), 2, (WIDTH * (0.7 if len(names) == 1 else 0.5), 2.7)) as figure:
        for axes, name in zip(figure.panels, names, strict=True):
            metric = name.removeprefix("val/")
            panel(axes, "", "step", f"validation: {FIGURES.get(metric, metric)}")
            _count_steps(axes)
            for run, _, best in (entry for entry in runs if entry[1] == name):
                steps, values = run.curves[name]
                axes.plot(steps, values, **look(run))
                ring = {"markersize": 11, "markerfacecolor": "none", "color": look(run)["color"]}
                axes.plot(best, values[steps.index(best)], "o", **ring)
        figure.legend(legend_of(run for run, _, _ in runs))
        return figure.svg(alt)


def _count_steps(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))


def bars(entries: Sequence[tuple[str, float, ReportedRun | None]], title: str, alt: str, name: str) -> str:
    """Published figures in grey and measured ones in the colours of their runs, the best first.

    Args:
        entries: label, value, and the run, None for a published figure.
        title: what the values are.
        alt: describes it.
        name: of the figure.
    """
    ranked = sorted(entries, key=lambda entry: -entry[1])
    with drawing(name, 1, 1, (WIDTH * 0.75, 0.27 * len(entries) + 0.5)) as figure:
        (axes,) = figure.panels
        panel(axes, "", title)
        for row, (_, value, run) in enumerate(ranked):
            axes.barh(row, value, height=0.62, color=look(run)["color"] if run else BAR)
            axes.annotate(f"{value:.3f}", (value, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_yticks(range(len(ranked)), [label for label, *_ in ranked])
        axes.grid(axis="y", visible=False)
        axes.set_ylim(len(ranked) - 0.4, -0.6)
        axes.set_xlim(0, max(value for _, value, _ in ranked) * 1.12)
        return figure.svg(alt)


def strips(runs: Sequence[ReportedRun], kinds: Sequence[str], alt: str) -> str:
    """The score of every image, a panel an image type and a row a run; a bar marks the mean."""
    size = (WIDTH / min(2, len(kinds)), 0.34 * len(runs) + 0.7)
    with drawing("strips", len(kinds), 2, size, sharey=True, sharex=True) as figure:
        for axes, kind in zip(figure.panels, kinds, strict=True):
            count = 0
            for row, run in enumerate(runs):
                assert run.images is not None, "chosen for having some"
                scores = run.images.scores[run.images.of_kind(kind)]
                count = max(count, len(scores))
                spread = (np.arange(len(scores)) * GOLDEN_RATIO % 1 - 0.5) * 0.55
                style = {"color": look(run)["color"], "markersize": 3.2, "alpha": 0.6, "markeredgewidth": 0}
                axes.plot(scores, row + spread, look(run)["marker"], **style)
                if len(scores):
                    axes.plot([scores.mean()] * 2, [row - 0.38, row + 0.38], color=INK, linewidth=1.8)
            panel(axes, f"{kind or 'all'}, {count} image{'' if count == 1 else 's'}", "DSB score of an image")
            axes.set_yticks(range(len(runs)), [run.label for run in runs])
            axes.set_ylim(len(runs) - 0.45, -0.55)
            axes.set_xlim(-0.02, 1.02)
            axes.grid(axis="y", visible=False)
            axes.label_outer()
        return figure.svg(alt)


def over_thresholds(
    runs: Sequence[ReportedRun], panels: Sequence[tuple[str, Callable[[ReportedRun], Any]]], alt: str, name: str
) -> str:
    """Figures over the IoU threshold.

    Args:
        runs: to draw.
        panels: title, and what gives the ten values of a run, or None.
        alt: describes it.
        name: of the figure.
    """
    with drawing(name, len(panels), 3, (WIDTH / 3, 2.4), sharey=True, sharex=True) as figure:
        for axes, (title, values) in zip(figure.panels, panels, strict=True):
            panel(axes, title, "IoU threshold")
            for run in runs:
                if (ten := values(run)) is not None:
                    axes.plot(THRESHOLDS, ten, **look(run))
            axes.set_xlim(0.48, 0.97)
            axes.set_ylim(0, 1)
        figure.legend(legend_of(runs))
        return figure.svg(alt)


def calibration(curves: Sequence[tuple[ReportedRun, Reliability]], alt: str) -> str:
    """How often objects of a score are right, beside how many have which score."""
    with drawing("calibration", 2, 2, (WIDTH / 2, 3.6)) as figure:
        reliable, spread = figure.panels
        panel(reliable, "Reliability", "mean score of a group of objects", "share that matches a true object")
        panel(spread, "Distribution of the scores", "score", "share of the objects")
        reliable.plot([0, 1], [0, 1], **EXPECTED)
        for run, curve in curves:
            assert run.objects is not None, "what the curve was made of"
            style = look(run)
            # 95 % intervals of the shares.
            counts = zip(curve.right.tolist(), curve.total.tolist(), strict=True)
            bounds = [binomtest(right, count).proportion_ci(method="wilson") for right, count in counts]
            low, high = [bound.low for bound in bounds], [bound.high for bound in bounds]
            reliable.vlines(curve.score, low, high, color=style["color"], alpha=0.4)
            reliable.plot(curve.score, curve.right / curve.total, **style)
            found, edges = np.histogram(run.objects.scores, bins=25, range=(0, 1))
            line = {key: style[key] for key in ("color", "linestyle", "linewidth")}
            spread.stairs(found / found.sum(), edges, **line)
        for axes in (reliable, spread):
            axes.set_xlim(0, 1.02)
        reliable.set_ylim(0, 1.02)
        spread.set_ylim(bottom=0)
        expected = Line2D([], [], label="perfectly calibrated", **EXPECTED)
        figure.legend([*legend_of(run for run, _ in curves), expected])
        return figure.svg(alt)
