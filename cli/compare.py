"""``python -m cli compare``: trains variants of one config, equal in all else, and lays their scores side by side."""

import subprocess
import sys
import time
from pathlib import Path

from cli.records import FIGURES, Run, image_types, read_run
from cli.report import report
from karyon.commands.console import DONE_BEFORE, duration, number, table
from karyon.commands.options import OptionParser
from karyon.errors import DataError

METRICS = ("dsb_score", "ap50", "ap70", "ap90", "aji", "pq", "count_error", "iou", "accuracy")


def compare(args: list[str], prog: str) -> None:
    """Trains and tests each variant that is not done yet, then writes ``comparison.md`` and ``comparison.html``.

    Args:
        args: of the command line, after ``compare``.
        prog: what the user has typed before.

    Raises:
        DataError: a file is missing, two variants have one name, or a training fails.
    """
    options, shared = _parser(prog).parse_known_args(args)
    names = [path.stem for path in options.variants]
    for path in (options.config, *options.variants):
        if not path.is_file():
            raise DataError(f"There is no config {path}: name YAML files that exist.")
    if len(set(names)) < len(names):
        raise DataError(f"Two variants have one name ({', '.join(names)}): rename a file.")
    folder = options.runs_dir / options.name
    runs: list[tuple[Path, Run]] = []
    start, trained = time.monotonic(), 0
    for count, (name, variant) in enumerate(zip(names, options.variants, strict=True)):
        found = newest(folder, name)
        said = DONE_BEFORE
        if found is None:
            spent = time.monotonic() - start
            left = f", about {duration(spent / trained * (len(names) - count))} left" if trained else ""
            said = f"{duration(spent)} spent{left}"
        print(f"[{count + 1}/{len(names)}] {name}: {said}", flush=True)
        if found is None:
            train(options.config, variant, folder, name, shared)
            found, trained = newest(folder, name), trained + 1
        if found is None:
            raise DataError(f"{folder / name} holds no tested run, though the training ended: see its output.")
        runs.append(found)
    (folder / "comparison.md").write_text(tabulated([run for _, run in runs]), encoding="utf-8")
    page = folder / "comparison.html"
    arguments = ["--out", str(page), "--title", f"Comparison of {options.name}"]
    report([*(str(path) for path, _ in runs), *arguments], "python -m cli report")
    print(f"Wrote {folder / 'comparison.md'}.")


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


def newest(folder: Path, name: str) -> tuple[Path, Run] | None:
    """The newest tested run of a variant and its folder, None where there is none."""
    from cli.runs import in_versions

    for record in in_versions(folder, name, "record.json"):
        try:
            return record.parent, read_run(record, name)
        except DataError:
            # Not tested yet.
            continue
    return None


def tabulated(runs: list[Run]) -> str:
    """The scores of variants as a Markdown table."""
    metrics = [*METRICS, *(f"dsb_score/{image_type}" for image_type in image_types(runs))]
    rows = []
    for run in runs:
        assert run.fit is not None, "trained just now"
        scores = [number(run.metric(metric), metric) for metric in metrics]
        rows.append([run.id, *scores, run.seconds, f"{run.fit['steps']:,}", duration(run.fit["wall_s"])])
    titles = [FIGURES.get(metric) or f"DSB score, {metric.partition('/')[2]}" for metric in metrics]
    return table(["variant", *titles, "s an image", "steps", "training"], rows) + "\n"


def _parser(prog: str) -> OptionParser:
    parser = OptionParser(
        prog=prog,
        description=f"{__doc__} All other options go to each `fit`, such as --trainer.max_time 00:00:20:00.",
    )
    parser.add_argument("variants", metavar="VARIANT", nargs="+", type=Path, help="YAML that overrides the config")
    parser.add_argument("--config", type=Path, required=True, help="YAML that all variants share")
    parser.add_argument("--name", default="comparison", help="folder under runs_dir for the runs and the table")
    parser.add_argument("--runs_dir", type=Path, default=Path("runs"), help="where all runs are kept")
    return parser
