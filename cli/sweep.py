"""``python -m cli sweep``: runs the trials of a sweep file in W&B's form, here or by SLURM, with no account."""

import argparse
import csv
import importlib.util
import io
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from karyon.commands.options import OptionParser
from karyon.errors import DataError

if TYPE_CHECKING:
    from cli.sweep_trials import Trials

SCRIPT = Path("slurm/sweep-trial.sbatch")
# Where an option says what a trial computes on, none is added.
RESOURCES = re.compile(r" (-G|-c|-n|--gpu|--gres|--cpus|--ntasks)")


def sweep(args: list[str], prog: str) -> int:
    """Runs the trials that are not done yet, then writes ``sweep.md``, ``sweep.csv`` and ``sweep.png``.

    Args:
        args: of the command line, after ``sweep``.

    Returns:
        the exit code: 0 all trials have ended well, 1 some have failed, 130 interrupted.

    Raises:
        DataError: the file cannot be run, has no end, or the folder holds another sweep.
    """
    options = _parser(prog).parse_args(args)
    if importlib.util.find_spec("optuna") is None:
        raise DataError("A sweep needs Optuna, which is not installed: pip install 'karyon[sweep]'.")
    from cli.sweep_study import read_sweep
    from cli.sweep_trials import Trials, locked, name_of

    file = read_sweep(options.file)
    if (limit := options.count or file.size()) is None:
        raise DataError(f"{options.file} has no end: say how many trials there are to be with --count.")
    trials = Trials(options.runs_dir / (options.name or file.name or options.file.stem), file, limit)
    trials.begin(options.retry_failed)
    if options.slurm is not None:
        _submit(options, trials.folder, limit - trials.ended())
        return 0
    trials.run(1 if options.one else options.jobs or 1, options.one)
    with locked(trials.folder / ".lock"):
        print(write(trials))
    print(f"Wrote {trials.folder / 'sweep.md'}, {trials.folder / 'sweep.csv'} and {trials.folder / 'sweep.png'}.")
    if trials.ending.is_set():
        print("Interrupted; the same command goes on.")
        return 130
    failed = [name_of(trial) for trial in trials.all() if trial.state.name == "FAIL"]
    return int(any(name in trials.ran or not options.one for name in failed))


def write(trials: "Trials") -> str:
    """Writes ``sweep.md``, ``sweep.csv`` and ``sweep.png``; returns the table as Markdown."""
    from cli.sweep_study import plain
    from cli.sweep_trials import name_of
    from karyon.commands.console import duration, number, table
    from karyon.io.whole_files import write_whole

    sweep, folder, varied = trials.sweep, trials.folder, trials.sweep.varied
    metric = sweep.metric.name if sweep.metric else "metric"
    tested, sign = f"test/{metric.rpartition('/')[2]}", -1 if sweep.goal == "maximize" else 1
    rows: list[dict[str, Any]] = []
    for trial in trials.all():
        name, command = name_of(trial), {"command": " ".join(trials.command(trial))}
        row = {"trial": name, "state": trials.state(trial), "wall_s": trial.user_attrs.get("wall_s", 0.0)}
        row |= {metric: sweep.best(trials.history(name))} | sweep.given(trial.params)
        rows.append(row | trials.record(name).get("test", {}).get("metrics", {}) | command)
    # The best first, those without a figure last.
    rows.sort(key=lambda row: (row[metric] is None, sign * (row[metric] or 0.0), row["trial"]))
    cells = []
    for row in rows:
        measured = [number(row[metric]), number(row.get(tested)), row["state"], duration(row["wall_s"])]
        cells.append([row["trial"], *(plain(row[name]) for name in varied), *measured])
    text = table(["trial", *varied.values(), metric, tested, "state", "time"], cells, words=1 + len(varied))
    counts = [f"{sum(row['state'] == state for row in rows)} {state}" for state in ("finished", "stopped", "failed")]
    summary = f"Method {sweep.method}; of {trials.limit} trials {counts[0]}, {counts[1]} early, {counts[2]}."
    if rows and rows[0][metric] is not None:
        summary += f" The best {metric}: {number(rows[0][metric])} of {rows[0]['trial']}, `{rows[0]['command']}`."
    failed = [
        f"- {name_of(trial)}: {trial.user_attrs['reason']}" for trial in trials.all() if trial.state.name == "FAIL"
    ]
    parts = [f"# {folder.name}", summary, text, "![The metric over each parameter](sweep.png)"]
    parts += ["Failed (`--retry_failed` tries them again; see their `log.txt`):", "\n".join(failed)] if failed else []
    parts += ["Each parameter in full, all test figures and each trial's command: `sweep.csv`."]
    write_whole(folder / "sweep.md", ("\n\n".join(parts) + "\n").encode())
    columns = dict.fromkeys(key for row in rows for key in row if key != "command")
    writer = csv.DictWriter(file := io.StringIO(newline=""), [*columns, "command"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(folder / "sweep.csv", file.getvalue().encode())
    write_whole(folder / "sweep.png", _figure(varied, metric, [row for row in rows if row[metric] is not None]))
    return text


def _figure(varied: dict[str, str], metric: str, rows: list[dict[str, Any]]) -> bytes:
    """Draws the metric over each parameter that varies, into a PNG."""
    import matplotlib
    from matplotlib.figure import Figure

    from cli.sweep_study import plain

    with matplotlib.rc_context(fname=Path(__file__).with_name("figures.mplstyle")):
        figure = Figure(figsize=(4.2 * max(1, len(varied)), 3.2), dpi=150, facecolor="white", layout="constrained")
        panels = figure.subplots(1, max(1, len(varied)), squeeze=False, sharey=True)[0]
        panels[0].set_ylabel(metric)
        for panel, (name, short) in zip(panels, varied.items(), strict=False):
            panel.set_title(short)
            values = [row[name] for row in rows]
            if any(isinstance(value, str | bool) for value in values):
                values = [plain(value)[:28] for value in values]
                panel.tick_params("x", rotation=20)
            elif rows and max(values) > 20 * min(values) > 0:
                panel.set_xscale("log")
            panel.scatter(values, [row[metric] for row in rows], zorder=2)
        figure.savefig(buffer := io.BytesIO(), metadata={"Software": None})
    return buffer.getvalue()


def _submit(options: argparse.Namespace, folder: Path, missing: int) -> None:
    """Hands the trials that are missing to SLURM, as an array of which each task runs the next one.

    Raises:
        DataError: there is no SLURM here, it refuses, or nothing is missing.
    """
    if missing < 1:
        raise DataError(f"All trials of {folder} have ended: see {folder / 'sweep.md'}, or raise --count.")
    if shutil.which("sbatch") is None:
        raise DataError("There is no sbatch here: log in to the cluster first, or leave out --slurm.")
    if not SCRIPT.is_file():
        raise DataError(f"There is no {SCRIPT}: run from the project's folder.")
    array = f"--array=1-{missing}" + (f"%{options.jobs}" if options.jobs else "")
    output = f"--output={folder / 'slurm-%A_%a.out'}"
    asked = shlex.split(options.slurm)
    resources = [] if RESOURCES.search(f" {options.slurm}") else ["--gpus-per-node=1", "--cpus-per-gpu=8"]
    command = ["sbatch", "--parsable", array, f"--job-name={folder.name}", output, *resources, *asked]
    command += [str(SCRIPT), str(options.file), "--name", folder.name, "--runs_dir", str(options.runs_dir)]
    command += ["--count", str(options.count)] if options.count else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"sbatch refuses ({done.stderr.strip()}): give options of its own with --slurm '...'.")
    job = done.stdout.strip().partition(";")[0]
    print(
        f"Submitted {missing} trials as the array {job}. Table and figure in {folder} grow with each that ends; squeue "
        f"-j {job} shows what runs, and the same command submits again what is missing."
    )


def _parser(prog: str) -> OptionParser:
    parser = OptionParser(
        prog=prog,
        description=(
            f"{__doc__} Grid, random draws, Bayesian optimisation and hyperband's early stop are Optuna's. "
            "The same command goes on after a stop: trials that have ended are not run again, interrupted ones "
            "go on where they were, and failed ones are listed."
        ),
    )
    parser.add_argument("file", type=Path, help="sweep file, such as configs/sweeps/unet.yaml")
    parser.add_argument("--count", type=_positive, help="trials in all; by default the file's run_cap, or a whole grid")
    parser.add_argument("--jobs", type=_positive, help="trials at a time; one by default, by SLURM as many as it runs")
    parser.add_argument(
        "--slurm",
        nargs="?",
        const="",
        metavar="OPTIONS",
        help="submit the trials as a SLURM array, each on a GPU with 8 CPUs where no options for sbatch say otherwise: "
        "--slurm='--partition=gpu --time=8:00:00'",
    )
    parser.add_argument("--one", action="store_true", help="run the next trial alone, as each task of that array does")
    parser.add_argument("--retry_failed", action="store_true", help="try failed trials again")
    parser.add_argument("--name", help="folder under runs_dir for the trials and the table; the file's name by default")
    parser.add_argument("--runs_dir", type=Path, default=Path("runs"), help="where all runs are kept")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number
