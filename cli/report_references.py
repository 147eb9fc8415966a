"""The figures of a report's runs, beside those that others have published for the same images."""

from collections.abc import Sequence

from cli.report_figures import bars
from cli.report_page import Block, Drawn, Heading, Note, Section, Table, named
from cli.report_runs import ReportedRun
from cli.report_sections import best_of, cells_of, data_set, without
from cli.results_page import FIGURES, NONE, seconds
from cli.results_records import References

Published = tuple[str, str, dict[str, float]]
"""Who, what, and figures by the names of our metrics."""


def results(runs: Sequence[ReportedRun], references: References | None) -> Section:
    """A table of all figures, and one beside what was published, for each data set."""
    tested = [run for run in runs if run.tested]
    section = Section("results", "Results beside the references")
    for data in dict.fromkeys(data_set(run) for run in tested):
        group = [run for run in tested if data_set(run) == data]
        section.blocks += [Heading(data), _measured(group)]
        section.blocks += _beside(group, data, published(references, data)) if references else []
    if references is None:
        section.blocks.append(Note("The published figures are not at hand: name their folder with --results_dir."))
    section.blocks += without([run for run in runs if run not in tested], "not tested yet")
    return section


def _measured(runs: Sequence[ReportedRun]) -> Table:
    """A row a figure, for there are more figures than runs."""
    metrics = [metric for metric in FIGURES if any(_figure(run, metric) is not None for run in runs)]
    figures = [[_figure(run, metric) for metric in metrics] for run in runs]
    best = best_of(figures, metrics)
    columns = [cells_of(column, metrics, best) for column in figures]
    rows = [[FIGURES[metric], *cells] for metric, *cells in zip(metrics, *columns, strict=True)]
    rows.append(["seconds an image", *(seconds(run.tested) if run.tested else NONE for run in runs)])
    return Table("Measured; the best of each row stands out", ["figure", *(named(run) for run in runs)], rows)


def _figure(run: ReportedRun, metric: str) -> float | None:
    return run.tested.metric(metric) if run.tested else None


def published(references: References, data: str) -> list[Published]:
    """What has been published for a data set: public figures, then systems that are not among them, then baselines."""
    found: list[Published] = []
    for entry in references.public:
        same = entry["data"] == data
        # Other images of the same kind.
        if same or entry.get("beside") == data or entry["data"].startswith(f"{data},"):
            found.append((entry["model"], entry["who"] + ("" if same else "; other images"), dict(entry["figures"])))
    metrics = {figure: about["metric"] for figure, about in references.figures.items()}
    for system in references.systems:
        figures = {metrics[key]: value for key, value in system.published.items() if metrics[key]}
        if system.data == data and figures and figures not in [known for *_, known in found]:
            found.append((system.model, references.sections[system.section]["title"], figures))
    if baseline := references.baselines.get(data):
        found.append((baseline["what"], "baseline: one class for every pixel", {"accuracy": baseline["accuracy"]}))
    return found


def _beside(runs: Sequence[ReportedRun], data: str, others: list[Published]) -> list[Block]:
    """Runs and published systems in one table and one figure, by the figures that were published."""
    metrics = [metric for metric in FIGURES if any(metric in figures for *_, figures in others)]
    metrics = [metric for metric in metrics if any(_figure(run, metric) is not None for run in runs)]
    if not metrics:
        return [Note(f"Nothing that was measured here has been published for {data}.")]
    rows = [
        [named(run), "this report", *cells_of([_figure(run, metric) for metric in metrics], metrics)] for run in runs
    ]
    ranked = sorted(others, key=lambda other: [-other[2].get(metric, -1.0) for metric in metrics])
    for model, who, figures in ranked:
        if any(metric in figures for metric in metrics):
            rows.append([model, who, *(f"{figures[metric]:g}" if metric in figures else NONE for metric in metrics)])
    first = metrics[0]
    entries: list[tuple[str, float, ReportedRun | None]] = [
        (run.label, value, run) for run in runs if (value := _figure(run, first)) is not None
    ]
    entries += [(model, figures[first], None) for model, _, figures in others if first in figures]
    texts = "; ".join(f"{label} {value:.3f}" for label, value, _ in sorted(entries, key=lambda entry: -entry[1]))
    title = FIGURES[first]
    name = f"beside-{first}-{runs[0].place}"
    return [
        Table("Beside published figures", ["system", "source", *(FIGURES[metric] for metric in metrics)], rows, 2),
        Drawn(bars(entries, title, f"{title}: {texts}.", name), f"{title}; published figures are grey."),
    ]
