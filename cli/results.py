"""``python -m cli results``: keeps the records of tested runs and writes RESULTS.md and its figure from them."""

import argparse
import os
from pathlib import Path

from cli.results_figure import draw
from cli.results_page import page
from cli.results_records import Run, read_references, read_run
from datamodules.sample import DataError


def results(args: list[str]) -> None:
    """Keeps the records given and writes the page anew from all that are kept.

    Args:
        args: of the command line, after ``results``.

    Raises:
        DataError: a record or the references cannot be used; nothing is written then.
    """
    options = _parser().parse_args(args)
    if options.run_id and len(options.records) != 1:
        raise DataError("--as ID names one run: give one RECORD with it.")
    references = read_references(options.results_dir / "references.yaml")
    records = options.results_dir / "records"
    kept = {run.id: run for run in (read_run(path, path.stem) for path in sorted(records.glob("*.json")))}
    added = {path: read_run(path, options.run_id) for path in options.records}
    _refuse_namesakes(added)
    for path, run in added.items():
        copy = records / f"{run.id}.json"
        print(f"{path} is kept as {copy}{', in place of an earlier one' if run.id in kept else ''}.")
        kept[run.id] = run
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    rank = {system.id: position for position, system in enumerate(references.systems)}
    runs = sorted(kept.values(), key=lambda run: (rank.get(run.id, len(rank)), run.id))
    figure = options.results_dir / "figure.png"
    draw(references, runs, figure)
    address = Path(os.path.relpath(figure, options.output.parent)).as_posix()
    options.output.write_text(page(references, runs, address), encoding="utf-8")
    print(f"Wrote {options.output} and {figure}.")


def _refuse_namesakes(added: dict[Path, Run]) -> None:
    paths: dict[str, Path] = {}
    for path, run in added.items():
        if run.id in paths:
            raise DataError(f"{paths[run.id]} and {path} are both of a run {run.id}: give one, or rename with --as ID.")
        paths[run.id] = path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cli results", description=__doc__)
    parser.add_argument(
        "records",
        metavar="RECORD",
        nargs="*",
        type=Path,
        help="record.json of a tested run, runs/NAME/version_N/test/record.json, to keep under the run's name",
    )
    parser.add_argument("--as", dest="run_id", metavar="ID", help="keep the one RECORD under this name instead")
    parser.add_argument(
        "--results_dir", type=Path, default=Path("results"), help="holds references.yaml, records/ and figure.png"
    )
    parser.add_argument("--output", type=Path, default=Path("RESULTS.md"), help="the page to write")
    return parser
