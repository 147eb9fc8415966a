"""The text of RESULTS.md."""

from typing import Any

from cli.results_records import References, Run, trained

FIGURES = {
    "dsb_score": "DSB score",
    "ap50": "AP(.5)",
    "ap70": "AP(.7)",
    "ap90": "AP(.9)",
    "aji": "AJI",
    "pq": "PQ",
    "count_error": "count error",
    "miou": "mIoU",
    "iou": "IoU",
    "accuracy": "accuracy",
    "val/accuracy": "validation accuracy",
    "val/miou": "validation mIoU",
    "box_map": "box mAP",
    "box_map50": "box AP(.5)",
    "mask_map": "mask mAP",
    "mask_map50": "mask AP(.5)",
    "crop_iou": "crop IoU",
    "val/crop_iou": "validation crop IoU",
    "v_rand": "V_rand",
    "v_info": "V_info",
    "v_rand_fixed": "V_rand at the set threshold",
    "v_info_fixed": "V_info at the set threshold",
    "rand_error": "Rand error",
    "pixel_error": "pixel error",
    "warping_error": "warping error",
}
BOUNDED = ("dsb_score", "ap50", "ap70", "ap90", "aji", "pq", "count_error")
NOT_YET, NONE = "not yet", "-"
INTRODUCTION = """\
What Karyon measured beside what was published. The test set of DSB2018 is the 65 images of `stage1_test`, each scored
at its original size; nothing was tuned on it. Four of them show, at another brightness, fields of view that are in the
training set too (`python -m cli check` names them), as in every published figure. On ISBI 2012
it is a block of slices held out from the training stack.
Read accuracies with care: calling every pixel background scores {dsb:.3f} on the 65 images (about .87 on the training
images), calling every pixel cell {isbi:.3f} on the held-out sections of ISBI 2012 (.780 on the whole stack). What
decides is the DSB score for nuclei, TP / (TP + FP + FN) of the objects, the mean over the IoU thresholds .50, .55 ...
.95 and over images, and V_rand and V_info for membranes. AP(t) is the same ratio at one threshold,
pooled over images; the count error is the mean of |predicted - true| objects an image. *{not_yet}* means that there is
no record. `python -m cli results RECORD ...` wrote this page from `results/records` and `results/references.yaml`:
change those, not this."""


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
    introduction = INTRODUCTION.format(dsb=baselines["DSB2018"], isbi=baselines["ISBI 2012"], not_yet=NOT_YET)
    parts = ["# Results", introduction, _queue(references.queue), f"![Published beside measured]({figure})"]
    parts += [_section(references, section, by_id) for section in references.sections]
    parts += [_measured(references, by_id)]
    parts += [_other_runs(others)] if others else []
    parts += [_bounds(bounded)] if (bounded := [run for run in runs if run.bounds]) else []
    parts += ["## Public figures to beat", _public(references, by_id)]
    parts += ["## Speed and memory", _benchmarks(references.benchmarks), _provenance(runs)]
    return "\n\n".join(parts) + "\n"


def table(header: list[str], rows: list[list[str]], words: int = 1) -> str:
    """A Markdown table.

    Args:
        header: of each column.
        rows: the cells.
        words: the number of leading columns that hold words; the others hold numbers and are aligned to the right.

    >>> print(table(["a", "b"], [["x|y", "1"]]))
    | a | b |
    | --- | ---: |
    | x\\|y | 1 |
    """
    rule = ["---"] * words + ["---:"] * (len(header) - words)
    lines = [header, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, metric: str = "") -> str:
    """A measured figure: four decimals, counts two."""
    if value is None:
        return NONE
    return f"{value:.2f}" if metric.startswith("count") else f"{value:.4f}"


def seconds(run: Run) -> str:
    """What the test of a run took for an image: network, decoding and scoring."""
    value = run.test.get("seconds_per_image")
    return NONE if value is None else f"{value:.2f}"


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
        row = [f"`{system.id}`", model, trained(run, system.schedule) if run else NOT_YET]
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
    rows = [[f"`{run.id}`", trained(run, None)] for run in runs]
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
    if any(seconds(run) != NONE for run in runs):
        header.append("s an image")
        rows = [[*row, seconds(run)] for row, run in zip(rows, runs, strict=True)]
    parts = [table(header, rows)]
    if kinds := image_types(runs):
        rows = [[f"`{run.id}`", *(number(run.metric(f"dsb_score/{kind}")) for kind in kinds)] for run in runs]
        parts += ["DSB score for each image type:", table(["id", *kinds], rows)]
    return parts


def image_types(runs: list[Run]) -> list[str]:
    """The image types that any of the runs was scored on."""
    score = "test/dsb_score/"
    return sorted({key.removeprefix(score) for run in runs for key in run.test["metrics"] if key.startswith(score)})


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


def duration(seconds: float) -> str:
    """A time in words.

    >>> duration(42), duration(4350)
    ('42 s', '1 h 12 min')
    """
    if seconds < 600:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
