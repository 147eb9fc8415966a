"""The tables and the figure of a benchmark."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cli.report_page import COLOURS, STYLE
from karyon.commands.console import counted, table

Results = dict[str, dict[str, dict[str, Any]]]
"""Figures by set and method."""

GOOD = 0.5  # DSB score

FIGURES = {"dsb_score": "DSB score", "ap50": "AP(.5)", "ap70": "AP(.7)", "ap90": "AP(.9)", "pq": "PQ"}
KINDS = ("tight", "loose", "split", "merged", "missed", "false")
KIND_COLOURS = ("#2f8f6b", "#b6d7c5", "#2a6f97", "#7a5ba6", "#c8374d", "#7d8793")
ABOUT = (
    "DSB score and count error are means over images, AP and PQ are pooled. Of the true objects: tight (IoU above .7), "
    "loose (found, the outline is off), split, merged, missed; false are predictions on background. The classical "
    "baseline is told the true size of the objects."
)


def page(results: Results) -> str:
    """The tables in Markdown, one for each set."""
    parts = ["# Benchmark", ABOUT]
    for name, methods in results.items():
        if figures := next((found for found in methods.values() if found), None):
            images, objects = int(figures["images"]), int(figures["objects_true"])
            parts.append(f"## {name}: {counted(images, 'image')}, {counted(objects, 'object')}")
            parts.append(set_table(methods))
    return "\n\n".join([*parts, "## Doubt", doubt(results)]) + "\n"


def doubt(results: Results) -> str:
    """How well each method's own scores tell good images from bad ones, and which ones `segment` calls doubtful."""
    lines = []
    for method in dict.fromkeys(method for methods in results.values() for method in methods):
        found = [methods[method] for methods in results.values() if methods.get(method)]
        each = [figures["each"] for figures in found]
        scores = np.array([score for part in each for score in part["scores"]])
        confidence = np.array([value for part in each for value in part["confidence"]])
        good = scores > GOOD
        if len(np.unique(confidence)) > 1 and 0 < good.sum() < len(good):
            above = np.subtract.outer(confidence[good], confidence[~good])
            share = ((above > 0) + (above == 0) / 2).mean()
            lines.append(
                f"- `{method}`: of an image with a DSB score above {GOOD} and one below, the mean score of the objects "
                f"is greater on the good one in {share:.0%} of the pairs ({good.sum()} good, {(~good).sum()} not)."
            )
        # A benchmark of an earlier release does not say.
        if found and (below := found[0].get("doubt_below")):
            # Where nothing is found, no score can be low.
            doubtful = (confidence > 0) & (confidence < below)
            lines.append(
                f"- `{method}`: `segment` calls {(doubtful & ~good).sum()} of the {(~good).sum()} images doubtful "
                f"whose DSB score is not above {GOOD}, and {(doubtful & good).sum()} of the {good.sum()} others."
            )
    return "\n".join(lines) or "Too few images, or all as good, to say anything."


def set_table(methods: dict[str, dict[str, Any]]) -> str:
    """One set's table in Markdown: a row for each method."""
    header = ["method", *FIGURES.values(), "count error", *KINDS, "s an image"]
    rows = [
        [
            f"`{method}`",
            *(f"{figures[key]:.3f}" for key in FIGURES),
            f"{figures['count_error']:.1f}",
            *(f"{figures[key]:.0f}" for key in KINDS),
            f"{figures['seconds']:.1f}",
        ]
        for method, figures in methods.items()
        if figures
    ]
    return table(header, rows)


def draw(results: Results, path: Path) -> None:
    """Draws the DSB scores, and what became of the objects, into a PNG."""
    sets = [name for name, methods in results.items() if any(methods.values())]
    methods = list(dict.fromkeys(method for name in sets for method in results[name]))
    with matplotlib.rc_context(fname=STYLE):
        figure = Figure(figsize=(10, 4 + 0.32 * len(sets) * len(methods)), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        upper, lower = figure.subplots(2, 1, height_ratios=[2.6, 0.32 * len(sets) * len(methods) + 0.6])
        width = 0.8 / max(len(methods), 1)
        for number, method in enumerate(methods):
            scores = [results[name].get(method, {}).get("dsb_score", 0.0) for name in sets]
            places = np.arange(len(sets)) + (number - (len(methods) - 1) / 2) * width
            bars = upper.bar(places, scores, width, color=COLOURS[number % len(COLOURS)], label=method)
            upper.bar_label(bars, fmt="%.2f", fontsize=8)
        upper.set_xticks(range(len(sets)), sets)
        upper.set_ylim(0, 1)
        upper.set_title("DSB score, mean over images", loc="left")
        upper.legend(bbox_to_anchor=(1, 1.02), loc="lower right", frameon=False, ncols=len(methods), borderaxespad=0)
        rows = [(name, method) for name in sets for method in methods if results[name].get(method)]
        _kinds(lower, [(f"{name}  {method}", results[name][method]) for name, method in rows])
        figure.savefig(path, metadata={"Software": None})


def _kinds(axes: Any, rows: list[tuple[str, dict[str, Any]]]) -> None:
    places = np.arange(len(rows))[::-1]
    left = np.zeros(len(rows))
    for kind, colour in zip(KINDS, KIND_COLOURS, strict=True):
        shares = np.array([figures[kind] / max(figures["objects_true"], 1) for _, figures in rows])
        axes.barh(places, shares, left=left, color=colour, label=kind)
        left += shares
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(places, [title for title, _ in rows], fontsize=8)
    axes.set_title("What became of the true objects, and false ones beside them; 1 is the true number", loc="left")
    axes.legend(bbox_to_anchor=(0.5, -0.08), loc="upper center", frameon=False, ncols=len(KINDS), fontsize=8)
