"""What a sweep has found: a table of its trials and a figure of its metric over each parameter."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cli.results_figure import MEASURED, PALE, STYLE
from cli.results_page import duration, number, table
from cli.sweep_trials import Trial, Trials
from lightning_modules.formats.folder import write_whole

LONGEST = 28  # characters of a value in a figure


def write(trials: Trials, limit: int) -> str:
    """Writes ``sweep.md``, ``sweep.csv`` and ``sweep.png``.

    Args:
        trials: of the sweep.
        limit: of their number.

    Returns:
        the table as Markdown.
    """
    sweep, folder = trials.sweep, trials.folder
    # The best first, those without a figure last, by number.
    scored = [(trial, sweep.best(trials.history(trial))) for trial in trials.all()]
    sign = -1 if sweep.maximized else 1
    scored.sort(key=lambda pair: (pair[1] is None, sign * (pair[1] or 0.0), pair[0].number))
    names = shortened(sweep.varied)
    tests = {trial.number: _test_metrics(trials, trial) for trial, _ in scored}
    tested = f"test/{(sweep.metric or '').rpartition('/')[2]}"
    header = ["trial", *names.values(), sweep.metric or "metric", tested, "state", "time"]
    rows = []
    for trial, best in scored:
        state = "interrupted" if trials.interrupted(trial) else trial.state
        cells = [number(best), number(tests[trial.number].get(tested)), state, duration(trial.wall_s)]
        rows.append([trial.name, *(plain(trial.parameters.get(name)) for name in names), *cells])
    text = table(header, rows, words=1 + len(names))
    parts = [f"# {folder.name}", _summary(trials, scored, limit), text, "![The metric over each parameter](sweep.png)"]
    parts += _failures([trial for trial, _ in scored])
    parts += ["Each parameter in full, all test figures and each trial's command: `sweep.csv`."]
    write_whole(folder / "sweep.md", ("\n\n".join(parts) + "\n").encode())
    write_whole(folder / "sweep.csv", _csv(scored, tests, sweep.metric or "metric").encode())
    draw(folder / "sweep.png", names, scored, sweep.metric or "metric")
    return text


def shortened(names: Sequence[str]) -> dict[str, str]:
    """As much of the end of each parameter's name as tells it from the others.

    >>> shortened(["model.init_args.lr", "data.init_args.size", "model.init_args.size"])
    {'model.init_args.lr': 'lr', 'data.init_args.size': 'data.size', 'model.init_args.size': 'model.size'}
    """
    parts = {name: [part for part in name.split(".") if part != "init_args"] for name in names}
    short = {}
    for name, own in parts.items():
        others = [other for key, other in parts.items() if key != name]
        count = next((k for k in range(1, len(own)) if all(other[-k:] != own[-k:] for other in others)), len(own))
        short[name] = ".".join(own[-count:])
    return short


def plain(value: Any) -> str:
    """A parameter's value in few words: classes by their names and arguments, files by their stems.

    >>> plain('{"class_path": "torch.optim.Adam", "init_args": {"lr": 0.001}}'), plain("configs/a.yaml"), plain(1 / 3)
    ('Adam lr 0.001', 'a', '0.3333')
    """
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, dict) and "class_path" in value:
        arguments = [f"{key} {plain(argument)}" for key, argument in value.get("init_args", {}).items()]
        return " ".join([value["class_path"].rpartition(".")[2], *arguments])
    if isinstance(value, str) and value.endswith(".yaml"):
        return Path(value).stem
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def described(parameters: dict[str, Any], varied: Sequence[str]) -> str:
    """The values of a trial in a line."""
    return ", ".join(f"{short} {plain(parameters.get(name))}" for name, short in shortened(varied).items())


def draw(path: Path, names: dict[str, str], scored: list[tuple[Trial, float | None]], metric: str) -> None:
    """Draws the metric of each trial over each parameter, into a PNG."""
    with matplotlib.rc_context(STYLE):
        columns = min(3, len(names)) or 1
        rows = -(-len(names) // columns) or 1
        figure = Figure(figsize=(4.2 * columns, 3.2 * rows), dpi=150, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for panel, (name, short) in zip(panels, names.items(), strict=False):
            points = [(trial.parameters.get(name), score) for trial, score in scored if score is not None]
            _panel(panel, short, points)
        for panel in panels[len(names) :]:
            panel.set_axis_off()
        for row in range(rows):
            panels[row * columns].set_ylabel(metric)
        buffer = io.BytesIO()
        figure.savefig(buffer, metadata={"Software": None})
    write_whole(path, buffer.getvalue())


def _panel(axes: Axes, title: str, points: list[tuple[Any, float]]) -> None:
    """Scores over numbers, or over the values in words."""
    axes.set_title(title)
    axes.grid(color=PALE)
    axes.spines[["top", "right"]].set_visible(False)
    values = [value for value, _ in points]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        axes.scatter(values, [score for _, score in points], color=MEASURED, zorder=2)
        if values and min(values) > 0 and max(values) > 20 * min(values):
            axes.set_xscale("log")
        return
    kinds = sorted({plain(value) for value in values})
    places = [kinds.index(plain(value)) for value in values]
    axes.scatter(places, [score for _, score in points], color=MEASURED, zorder=2)
    axes.set_xticks(range(len(kinds)), [kind[:LONGEST] for kind in kinds], rotation=20, ha="right")
    axes.set_xlim(-0.5, len(kinds) - 0.5)


def _summary(trials: Trials, scored: list[tuple[Trial, float | None]], limit: int) -> str:
    sweep = trials.sweep
    counts = {state: sum(trial.state == state for trial, _ in scored) for state in ("finished", "stopped", "failed")}
    text = f"Method {sweep.content['method']}; of {limit} trials {counts['finished']} finished, {counts['stopped']} "
    text += f"stopped early, {counts['failed']} failed."
    if scored and scored[0][1] is not None:
        trial, best = scored[0]
        goal = "highest" if sweep.maximized else "lowest"
        text += f" The {goal} {sweep.metric}: {number(best)} of {trial.name}, `{' '.join(trial.command)}`."
    return text


def _failures(trials: list[Trial]) -> list[str]:
    failed = [f"- {trial.name}: {trial.reason}" for trial in trials if trial.state == "failed"]
    return (
        ["Failed (`--retry_failed` tries them again; see `log.txt` in their folders):", "\n".join(failed)]
        if failed
        else []
    )


def _test_metrics(trials: Trials, trial: Trial) -> dict[str, float]:
    record = trials.record(trial) or {}
    metrics: dict[str, float] = record.get("test", {}).get("metrics", {})
    return metrics


def _csv(scored: list[tuple[Trial, float | None]], tests: dict[int, dict[str, float]], metric: str) -> str:
    parameters = dict.fromkeys(name for trial, _ in scored for name in trial.parameters)
    figures = dict.fromkeys(key for found in tests.values() for key in found)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", "wall_s", metric, *parameters, *figures, "command"])
    for trial, best in scored:
        values = [trial.parameters.get(name) for name in parameters]
        measured = [tests[trial.number].get(key) for key in figures]
        writer.writerow([trial.name, trial.state, trial.wall_s, best, *values, *measured, " ".join(trial.command)])
    return text.getvalue()
