"""The text of RESULTS.md."""

from typing import Any

from cli.records import FIGURES, Run, image_types
from cli.references import References, trained
from karyon.commands.console import NONE, duration, number, table

BOUNDED = ("dsb_score", "ap50", "ap70", "ap90", "aji", "pq", "count_error")
NOT_YET = "not yet"


def page(references: References, runs: list[Run], figure: str) -> str:
    """Lays everything out as Markdown.

    Args:
        references: published systems, public figures and the GPU queue.
        runs: those of the systems and any others.
        figure: address of the picture, relative to the page.
    """
    by_id = {run.id: run for run in runs}
    others = [run for run in runs if run.id not in {system.id for system in references.systems}]
    baselines = {data: baseline["accuracy"] for data, baseline in references.baselines.items()}
    introduction = references.introduction.format(
        dsb=baselines["DSB2018"], isbi=baselines["ISBI 2012"], not_yet=NOT_YET
    )
    parts = ["# Results", introduction, _queue(references.queue), f"![Published beside measured]({figure})"]
    parts += [_section(references, section, by_id) for section in references.sections]
    parts += [_measured(references, by_id)]
    parts += [_other_runs(others)] if others else []
    parts += [_bounds(bounded)] if (bounded := [run for run in runs if run.bounds]) else []
    parts += ["## Public figures to beat", _public(references, by_id)]
    parts += ["## Speed and memory", _benchmarks(references.benchmarks), _provenance(runs)]
    return "\n\n".join(parts) + "\n"


def _queue(queue: list[dict[str, str]]) -> str:
    lines = [f"{rank}. `{run['command']}`: {run['why']}." for rank, run in enumerate(queue, 1)]
    about = (
        "Runs that wait for a GPU, the most wanted first. What one leaves enters this page with `python -m cli results "
        "runs/NAME/version_N/record.json`."
    )
    return "\n".join(["## GPU queue", "", about, "", *lines])


def _section(references: References, section: str, by_id: dict[str, Run]) -> str:
    """The systems of a publication, published figures beside measured ones."""
    systems = [system for system in references.systems if system.section == section]
    figures = {key: value for key, value in references.figures.items() if any(key in s.published for s in systems)}
    header = ["id", "model", "trained"]
    for figure in figures.values():
        header.append(f"{figure['title']}, published")
        header += [f"{FIGURES[figure['metric']]}, measured"] if figure["metric"] else []
    rows = []
    for system in systems:
        run = by_id.get(system.id)
        model = f"{system.model} ({system.note})" if system.note else system.model
        row = [f"`{system.id}`", model, trained(run.fit, system.schedule) if run else NOT_YET]
        for key, figure in figures.items():
            row.append(f"{system.published[key]:g}" if key in system.published else NONE)
            if figure["metric"]:
                row.append(number(run.metric(figure["metric"]), figure["metric"]) if run else NOT_YET)
        rows.append(row)
    title = f"## {section}. {references.sections[section]['title']}"
    return "\n\n".join([title, references.sections[section]["note"], table(header, rows, words=3)])


def _measured(references: References, by_id: dict[str, Run]) -> str:
    """Every figure of the systems' runs, a table for each data set."""
    parts = ["## Measured"]
    for data in dict.fromkeys(system.data for system in references.systems):
        runs = [by_id[system.id] for system in references.systems if system.data == data and system.id in by_id]
        parts += [f"### {data}", *_figures(runs)] if runs else []
    return "\n\n".join(parts if len(parts) > 1 else [*parts, "Nothing yet."])


def _other_runs(runs: list[Run]) -> str:
    rows = [[f"`{run.id}`", trained(run.fit)] for run in runs]
    about = "Runs of ours that stand for no published system."
    return "\n\n".join(["## Other runs", about, table(["id", "trained"], rows, words=2), *_figures(runs)])


def _bounds(runs: list[Run]) -> str:
    """What the truth in place of a stage would gain."""
    rows = [
        [f"`{run.id}`", name, *(number(metrics.get(metric), metric) for metric in BOUNDED)]
        for run in runs
        for name, metrics in (run.bounds or {}).items()
    ]
    about = "The truth in place of one stage of two, or of both, on the same test images: which one loses the score?"
    header = ["id", "stages", *(FIGURES[metric] for metric in BOUNDED)]
    return "\n\n".join(["## Bounds of two stages", about, table(header, rows, words=2)])


def _figures(runs: list[Run]) -> list[str]:
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


def _public(references: References, by_id: dict[str, Run]) -> str:
    """The public figures, and the best of ours where the test images are the same."""
    rows = []
    for entry in references.public:
        figures = entry["figures"]
        rows.append(
            [
                " / ".join(FIGURES[metric] for metric in figures),
                entry["data"],
                entry["model"],
                entry["who"],
                " / ".join(f"{value:g}" for value in figures.values()),
                _best(references, entry, by_id),
            ]
        )
    return table(["what", "test set", "model", "who", "figure", "our best"], rows, words=4)


def _benchmarks(benchmarks: list[dict[str, str]]) -> str:
    """What the benchmarks printed, each with all that is needed to repeat or to doubt it."""
    rows = [[entry["what"], entry["figure"], f"`{entry['command']}`", entry["measured"]] for entry in benchmarks]
    return table(["what", "figure", "command", "measured"], rows, words=4)


def _best(references: References, entry: dict[str, Any], by_id: dict[str, Run]) -> str:
    """Our run that is best by the first of a public entry's figures, on its data or on those to stand beside it.

    Beside a figure of the original annotation alone stands one of ours of which the same is true.
    """
    metrics, data = list(entry["figures"]), entry.get("beside", entry["data"])
    systems = [
        system for system in references.systems if system.data == data and not (entry.get("plain") and system.beyond)
    ]
    runs = [by_id[system.id] for system in systems if system.id in by_id]
    scores = {run.id: score for run in runs if (score := run.metric(metrics[0])) is not None}
    if not scores:
        return NOT_YET
    best = max(scores, key=lambda run_id: scores[run_id])
    other = ", on other images" if "beside" in entry else ""
    return f"{' / '.join(number(by_id[best].metric(metric)) for metric in metrics)} (`{best}`{other})"


def _provenance(runs: list[Run]) -> str:
    """What is needed to repeat or to doubt each figure."""
    parts = ["## Provenance"]
    for run in runs:
        training = "no record"
        if run.fit:
            size = f"{run.fit['parameters']:,} parameters, {run.fit['steps']:,} steps, precision {run.fit['precision']}"
            training = f"{_stage(run.fit)}, {size}"
        parts += [f"### `{run.id}`", f"- trained: {training}\n- tested: {_stage(run.test)}"]
    return "\n\n".join(parts if runs else [*parts, "No records yet."])


def _stage(record: dict[str, Any]) -> str:
    """A line on a training or a test."""
    commit = f"commit `{record['commit']}`"
    if record["commit"].endswith("-dirty"):
        commit += " (**with uncommitted changes**)"
    facts = [commit, f"seed {record['seed']}", record["hardware"], duration(record["wall_s"]), record["date"]]
    return f"`{record['command']}`; {', '.join(facts)}"
