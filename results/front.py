"""RESULTS.md: one screen on what was published, what is ours, and what is still open."""

from pathlib import PurePosixPath
from typing import Any

from cli.benchmark_page import Results
from cli.records import FIGURES, Run
from cli.references import References, System, how_trained
from karyon.commands.console import NONE, number, table
from results.data_page import NOT_YET, best_run, slug
from results.provenance import PROVENANCE
from results.unseen import membranes

OTHERS = "other.md"
OPEN = (
    "Still open is what our run lacks of the published one, and by how much its figures are below. Its other "
    "figures are on the page of its data."
)


def front(references: References, runs: list[Run], benchmark: Results, folder: str) -> str:
    """Lays the first page out as Markdown.

    Args:
        references: published systems, public figures and the pages.
        runs: those of the systems and any others.
        benchmark: figures of images from elsewhere, {} where nothing was measured.
        folder: address of the other pages, relative to this one.
    """
    by_id = {run.id: run for run in runs}
    place = PurePosixPath(folder)
    parts = ["# Results", references.introduction.format(not_yet=NOT_YET), _contents(references, runs, place)]
    parts += ["## Published systems", OPEN, _published(references, by_id, place)]
    parts += ["## The best of ours", _best(references, by_id, place)]
    if elsewhere := _elsewhere(benchmark, references, place):
        parts += ["## Images from elsewhere", *elsewhere]
    parts += [f"![Published beside measured]({place / 'figure.png'})"]
    return "\n\n".join(parts) + "\n"


def _contents(references: References, runs: list[Run], place: PurePosixPath) -> str:
    lines = [f"- [{page['title']}]({place / page['file']})" for page in references.pages]
    if any(references.system(run.id) is None for run in runs):
        lines.append(f"- [Other runs]({place / OTHERS})")
    about = "command, commit, seed, hardware and time of each run; runs that wait for a GPU; speed and memory"
    return "\n".join([*lines, f"- [Provenance]({place / PROVENANCE}): {about}"])


def _published(references: References, by_id: dict[str, Run], place: PurePosixPath) -> str:
    """A row for each system that figures were published of."""
    rows = []
    for page in references.pages:
        for system in references.on(page):
            if compared := references.compared(system):
                run = by_id.get(system.id)
                section = f"{system.section}. {references.sections[system.section]['title']}"
                source = f"[{system.section}]({place / page['file']}#{slug(section)}) {system.model}"
                published = ", ".join(f"{title} {value:g}" for title, value, _ in compared)
                length = how_trained(run, system) if run else NOT_YET
                rows.append(
                    [f"`{system.id}`", source, published, _ours(run, compared), length, _open(run, system, compared)]
                )
    return table(["id", "system", "published", "ours", "trained", "still open"], rows, words=6)


def _ours(run: Run | None, compared: list[tuple[str, float, list[str]]]) -> str:
    if run is None:
        return NOT_YET
    metrics = dict.fromkeys(metric for *_, metrics in compared for metric in metrics)
    measured = {metric: value for metric in metrics if (value := run.metric(metric)) is not None}
    return ", ".join(f"{FIGURES[metric]} {value:.3f}" for metric, value in measured.items()) or NONE


def _open(run: Run | None, system: System, compared: list[tuple[str, float, list[str]]]) -> str:
    """What a run lacks of the published one."""
    parts = ["all of the training"] if run is None else []
    if run is not None:
        parts += ["the rest of the training"] if how_trained(run, system).startswith("partial") else []
        for _, published, (metric, *_) in compared:
            value = run.metric(metric)
            lacking = published - value if value is not None else 0
            parts += [f"{FIGURES[metric]} {lacking:.3f} below"] if round(lacking, 3) > 0 else []
    return "; ".join([*parts, system.open] if system.open else parts) or NONE


def _best(references: References, by_id: dict[str, Run], place: PurePosixPath) -> str:
    """Our best run on each data set, and the best public figure."""
    rows = []
    for page in references.pages:
        for data, metrics in page["best"].items():
            run = best_run([by_id[s.id] for s in references.systems if s.data == data and s.id in by_id], metrics[0])
            names, ours = " / ".join(FIGURES[metric] for metric in metrics), NOT_YET
            if run is not None:
                ours = f"{' / '.join(number(run.metric(metric), metric) for metric in metrics)} (`{run.id}`)"
            rows.append([f"[{data}]({place / page['file']})", names, ours, _to_beat(references, data, metrics)])
    return table(["test images", "figures", "ours", "published"], rows, words=4)


def _to_beat(references: References, data: str, metrics: list[str]) -> str:
    known = [entry for entry in references.public if entry.get("beside", entry["data"]) == data]
    known = [entry for entry in known if metrics[0] in entry["figures"]]
    if not known:
        return NONE
    best: dict[str, Any] = max(known, key=lambda entry: entry["figures"][metrics[0]])
    figures = " / ".join(f"{value:g}" for metric, value in best["figures"].items() if metric in metrics)
    return f"{figures} ({best['model']}, {best['who']}{'; other images' if 'beside' in best else ''})"


def _elsewhere(benchmark: Results, references: References, place: PurePosixPath) -> list[str]:
    """DSB scores, a row for each set and a column for each method, the best in bold; and figures of membranes."""
    methods = list(dict.fromkeys(method for figures in benchmark.values() for method in figures))
    rows = []
    for name, figures in benchmark.items():
        scores = {method: found["dsb_score"] for method, found in figures.items() if found}
        if not scores:
            continue
        best = max(scores.values())
        cells = [NONE if method not in scores else f"{scores[method]:.3f}" for method in methods]
        bold = [f"**{c}**" if scores.get(method) == best else c for method, c in zip(methods, cells, strict=True)]
        rows.append([f"[{name}]({place / 'unseen.md'}#{slug(name)})", *bold])
    about = "DSB score, mean over images; no model was trained on any of them, and the classical one knows their size."
    parts = [about, table(["set", *(f"`{method}`" for method in methods)], rows)] if rows else []
    beside = [f"Membranes, `{name}`: {model} has {said}." for name, model, said, _ in membranes(references.unseen)]
    return parts + beside
