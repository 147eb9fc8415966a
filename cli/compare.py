"""``python -m cli compare``: trains variants of one config, equal in all else, and lays their scores side by side."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cli.results_figure import INK, MEASURED, STYLE, frame
from cli.results_page import FIGURES, duration, image_types, number, seconds, table
from cli.results_records import Run, read_run
from cli.runs import in_versions
from datamodules.sample import DataError

METRICS = ("dsb_score", "ap50", "ap70", "ap90", "aji", "pq", "count_error", "iou", "accuracy")


def compare(args: list[str]) -> None:
    """Trains and tests each variant that is not done yet, then writes ``comparison.md`` and ``comparison.png``.

    Args:
        args: of the command line, after ``compare``.

    Raises:
        DataError: a file is missing, two variants have one name, or a training fails.
    """
    options, shared = _parser().parse_known_args(args)
    names = [path.stem for path in options.variants]
    for path in (options.config, *options.variants):
        if not path.is_file():
            raise DataError(f"There is no config {path}: name YAML files that exist.")
    if len(set(names)) < len(names):
        raise DataError(f"Two variants have one name ({', '.join(names)}): rename a file.")
    folder = options.runs_dir / options.name
    runs: list[Run] = []
    start, trained = time.monotonic(), 0
    for number_, (name, variant) in enumerate(zip(names, options.variants, strict=True), start=1):
        if (run := finished(folder, name)) is None:
            spent = time.monotonic() - start
            left = f", about {duration(spent / trained * (len(names) - number_ + 1))} left" if trained else ""
            print(f"[{number_}/{len(names)}] {name}: {duration(spent)} spent{left}", flush=True)
            train(options.config, variant, folder, name, shared)
            run, trained = finished(folder, name), trained + 1
            if run is None:
                raise DataError(f"{folder / name} holds no tested run, though the training ended: see its output.")
        else:
            print(f"[{number_}/{len(names)}] {name}: done already")
        runs.append(run)
    write(runs, folder)
    print(f"Wrote {folder / 'comparison.md'} and {folder / 'comparison.png'}.")


def train(config: Path, variant: Path, folder: Path, name: str, shared: list[str]) -> None:
    """Trains and tests one variant in a process of its own, going on where an earlier attempt was stopped.

    Raises:
        DataError: it fails; it has said why.
    """
    files = ["--config", str(config), "--config", str(variant)]
    where = ["--runs_dir", str(folder), "--name", name, "--test_after_fit", "true", "--ckpt_path", "last"]
    ended = subprocess.run([sys.executable, "-m", "cli", "fit", *files, *shared, *where], check=False)
    if ended.returncode:
        raise DataError(f"The variant {variant} failed (exit code {ended.returncode}); the same command goes on there.")


def finished(folder: Path, name: str) -> Run | None:
    """The newest tested run of a variant, None where there is none."""
    for record in in_versions(folder, name, "record.json"):
        try:
            return read_run(record, name)
        except DataError:
            # Not tested yet.
            continue
    return None


def write(runs: list[Run], folder: Path) -> None:
    """Writes the table and the figure."""
    kinds = image_types(runs)
    rows = []
    for run in runs:
        assert run.fit is not None, "trained just now"
        cells = [number(run.metric(metric), metric) for metric in METRICS]
        cells += [number(run.metric(f"dsb_score/{kind}")) for kind in kinds]
        rows.append([run.id, *cells, seconds(run), f"{run.fit['steps']:,}", duration(run.fit["wall_s"])])
    header = ["variant", *(FIGURES[metric] for metric in METRICS), *(f"DSB score, {kind}" for kind in kinds)]
    text = table([*header, "s an image", "steps", "training"], rows)
    commands = "\n".join(f"- {run.id}: `{run.fit['command']}`, seed {run.fit['seed']}" for run in runs if run.fit)
    (folder / "comparison.md").write_text(f"{text}\n\n{commands}\n", encoding="utf-8")
    draw(runs, folder / "comparison.png")


def draw(runs: list[Run], path: Path) -> None:
    """Draws the DSB score and AP(.5) of each run as bars."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 0.5 * len(runs) + 1.5), dpi=150, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, 2, sharey=True)
        for panel, metric in zip(axes, ("dsb_score", "ap50"), strict=True):
            scores = [run.metric(metric) or 0.0 for run in runs]
            panel.barh(range(len(runs)), scores, height=0.6, color=MEASURED)
            for row, score in enumerate(scores):
                panel.annotate(f" {score:.3f}", (score, row), va="center", color=INK, fontsize=8)
            frame(panel, FIGURES[metric], [run.id for run in runs], top=-0.6)
            panel.set_xlim(0, max([*scores, 0.01]) * 1.15)
        figure.savefig(path, metadata={"Software": None})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cli compare",
        description=f"{__doc__} All other options go to each `fit`, such as --trainer.max_time 00:00:20:00.",
    )
    parser.add_argument("variants", metavar="VARIANT", nargs="+", type=Path, help="YAML put behind the config")
    parser.add_argument("--config", type=Path, required=True, help="YAML that all variants share")
    parser.add_argument("--name", default="comparison", help="folder under runs_dir for the runs and the table")
    parser.add_argument("--runs_dir", type=Path, default=Path("runs"), help="where all runs are kept")
    return parser
