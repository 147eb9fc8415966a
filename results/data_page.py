"""The page of a data set: published figures beside measured ones, and everything that was measured."""

import re
from typing import Any

import numpy as np

from cli.records import FIGURES, Run, image_types
from cli.references import References, System, how_trained
from karyon.commands.console import NONE, number, table
from results.provenance import told

BOUNDED = ("dsb_score", "ap50", "ap70", "ap90", "aji", "pq", "count_error")
SPREAD = ("dsb_score", "ap50", "miou", "accuracy", "val/miou", "v_rand", "v_info")
NOT_YET = "not yet"


def data_page(references: References, page: dict[str, Any], runs: list[Run]) -> str:
    """Lays a page out as Markdown.

    Args:
        references: published systems and public figures.
        page: one of its ``pages``.
        runs: of any data set.
    """
    by_id, systems = {run.id: run for run in runs}, references.on(page)
    baselines = {data: baseline["accuracy"] for data, baseline in references.baselines.items()}
    parts = [f"# {page['title']}", page["about"].format(dsb=baselines["DSB2018"], isbi=baselines["ISBI 2012"])]
    for section in references.sections:
        if chosen := [system for system in systems if system.section == section]:
            parts.append(_section(references, section, chosen, by_id))
    parts += ["## What the runs tell", "\n".join(f"- {note}" for note in page["notes"])] if page["notes"] else []
    for data in dict.fromkeys(system.data for system in systems):
        measured = [by_id[system.id] for system in systems if system.data == data and system.id in by_id]
        parts += [f"## Measured: {data}", *figures(measured)] if measured else []
        public = [entry for entry in references.public if entry["data"] == data and "further" in entry]
        parts += [_thresholds(public, measured)] if public and measured else []
    parts += _spread(systems, runs)
    if bounded := [run for run in runs if run.bounds and references.system(run.id) in systems]:
        parts += ["## Bounds of two stages", _bounds(bounded)]
    if public := [entry for entry in references.public if page["data"] in entry["data"]]:
        parts += ["## Public figures to beat", _public(references, public, by_id)]
    return "\n\n".join(parts) + "\n"


def other_page(runs: list[Run]) -> str:
    """The page of runs that stand for no published system."""
    rows = [[f"`{run.id}`", told(run.id, how_trained(run))] for run in runs]
    about = "Runs of ours that stand for no published system."
    parts = ["# Other runs", about, table(["id", "trained"], rows, words=2), *figures(runs)]
    bounded = [run for run in runs if run.bounds]
    return "\n\n".join([*parts, *(["## Bounds of two stages", _bounds(bounded)] if bounded else [])]) + "\n"


def slug(heading: str) -> str:
    """The anchor that a heading has on a page of Markdown."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def best_run(runs: list[Run], metric: str) -> Run | None:
    """The run that is best by a metric of which more is better; None where none has it."""
    scored = [run for run in runs if run.metric(metric) is not None]
    return max(scored, key=lambda run: run.metric(metric) or 0.0, default=None)


def _section(references: References, section: str, systems: list[System], by_id: dict[str, Run]) -> str:
    """The systems of a publication, published figures beside measured ones."""
    columns = {key: value for key, value in references.figures.items() if any(key in s.published for s in systems)}
    header = ["id", "model", "trained"]
    for figure in columns.values():
        header += [f"{figure['title']}, published", *(f"{FIGURES[name]}, measured" for name in figure["metrics"])]
    rows = []
    for system in systems:
        run = by_id.get(system.id)
        model = f"{system.model} ({system.note})" if system.note else system.model
        row = [f"`{system.id}`", model, told(run.id, how_trained(run, system)) if run else NOT_YET]
        for key, figure in columns.items():
            row.append(f"{system.published[key]:g}" if key in system.published else NONE)
            row += [number(run.metric(name), name) if run else NOT_YET for name in figure["metrics"]]
        rows.append(row)
    title = f"## {section}. {references.sections[section]['title']}"
    return "\n\n".join([title, references.sections[section]["note"], table(header, rows, words=3)])


def figures(runs: list[Run]) -> list[str]:
    """A table of the figures of some runs, and one of their DSB score for each image type."""
    metrics = [metric for metric in FIGURES if any(run.metric(metric) is not None for run in runs)]
    header = ["id", *(FIGURES[metric] for metric in metrics)]
    rows = [[f"`{run.id}`", *(number(run.metric(metric), metric) for metric in metrics)] for run in runs]
    if any(run.seconds != NONE for run in runs):
        header.append("s an image")
        rows = [[*row, run.seconds] for row, run in zip(rows, runs, strict=True)]
    parts = [table(header, rows)]
    if types := image_types(runs):
        rows = [
            [f"`{run.id}`", *(number(run.metric(f"dsb_score/{image_type}")) for image_type in types)] for run in runs
        ]
        parts += ["DSB score for each image type:", table(["id", *types], rows)]
    return parts


def _spread(systems: list[System], runs: list[Run]) -> list[str]:
    """Mean and range of what was run with several seeds: the run itself, and those called ``<id>-seed-N``."""
    same = {s.id: [run for run in runs if re.fullmatch(rf"{re.escape(s.id)}(-seed-\d+)?", run.id)] for s in systems}
    repeated = {system_id: found for system_id, found in same.items() if len(found) > 1}
    if not repeated:
        return []
    metrics = [m for m in SPREAD if any(run.metric(m) is not None for found in repeated.values() for run in found)]
    rows = [
        [f"`{system_id}`", str(len(found)), *(_mean_and_range(found, metric) for metric in metrics)]
        for system_id, found in repeated.items()
    ]
    about = "Mean, and in brackets the least and the greatest, of runs that differ in the seed alone."
    header = ["id", "runs", *(FIGURES[metric] for metric in metrics)]
    each = [run for found in repeated.values() for run in found]
    return ["## Spread over seeds", about, table(header, rows), *figures(each)]


def _mean_and_range(runs: list[Run], metric: str) -> str:
    values = [value for run in runs if (value := run.metric(metric)) is not None]
    return f"{np.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})" if values else NONE


def _bounds(runs: list[Run]) -> str:
    """What the truth in place of a stage would gain."""
    rows = [
        [f"`{run.id}`", name, *(number(metrics.get(metric), metric) for metric in BOUNDED)]
        for run in runs
        for name, metrics in (run.bounds or {}).items()
    ]
    about = "The truth in place of one stage of two, or of both, on the same test images: which one loses the score?"
    header = ["id", "stages", *(FIGURES[metric] for metric in BOUNDED)]
    return "\n\n".join([about, table(header, rows, words=2)])


def _thresholds(public: list[dict[str, Any]], runs: list[Run]) -> str:
    """The pooled AP at each threshold, published beside measured."""
    metrics = [f"ap{threshold}" for threshold in range(50, 95, 5)]
    published = [(entry["model"], entry["figures"] | entry["further"]) for entry in public]
    rows = [[model, *(number(values.get(metric)) for metric in metrics)] for model, values in published]
    rows += [[f"`{run.id}`", *(number(run.metric(metric)) for metric in metrics)] for run in runs]
    about = "AP at each threshold; of the published ones, on the same images, not all are known:"
    return "\n\n".join([about, table(["model", *(f".{metric[2:]}" for metric in metrics)], rows)])


def _public(references: References, public: list[dict[str, Any]], by_id: dict[str, Run]) -> str:
    """The public figures, and the best of ours where the test images are the same."""
    rows = [
        [
            " / ".join(FIGURES[metric] for metric in entry["figures"]),
            entry["data"],
            entry["model"],
            entry["who"],
            " / ".join(f"{value:g}" for value in entry["figures"].values()),
            _best(references, entry, by_id),
        ]
        for entry in public
    ]
    return table(["what", "test set", "model", "who", "figure", "our best"], rows, words=4)


def _best(references: References, entry: dict[str, Any], by_id: dict[str, Run]) -> str:
    """Our run that is best by the first of a public entry's figures, on its data or on those to stand beside it.

    Beside a figure of the original annotation alone stands one of ours of which the same is true.
    """
    metrics, data = list(entry["figures"]), entry.get("beside", entry["data"])
    systems = [
        system for system in references.systems if system.data == data and not (entry.get("plain") and system.beyond)
    ]
    best = best_run([by_id[system.id] for system in systems if system.id in by_id], metrics[0])
    if best is None:
        return NOT_YET
    other = ", on other images" if "beside" in entry else ""
    return f"{' / '.join(number(best.metric(metric)) for metric in metrics)} (`{best.id}`{other})"
