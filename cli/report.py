"""``python -m cli report``: one HTML page on one run or several, from the files they have left; no model is run."""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from cli.report_evidence import calibrated, costs, examples, provenance
from cli.report_page import render
from cli.report_references import results
from cli.report_runs import read_runs
from cli.report_sections import learning, overview, thresholds, types
from cli.results_records import read_references
from lightning_modules.formats.folder import write_whole, writing_to


def report(args: list[str]) -> None:
    """Writes the page.

    Args:
        args: of the command line, after ``report``.

    Raises:
        DataError: a folder holds no run, a file in it is damaged, or the page cannot be written.
    """
    options = _parser().parse_args(args)
    runs = read_runs(options.runs)
    path = options.results_dir / "references.yaml"
    references = read_references(path) if path.is_file() else None
    sections = [overview(runs), learning(runs), results(runs, references), types(runs), thresholds(runs)]
    sections += [examples(runs), calibrated(runs), costs(runs), provenance(runs)]
    names = ", ".join(run.label for run in runs)
    facts = [
        f"{len(runs)} run{'' if len(runs) == 1 else 's'}, written on {datetime.now(UTC):%d %B %Y} from the files that "
        "training and test have left."
    ]
    page = render(options.title or f"Report on {names}", facts, sections).encode()
    with writing_to(options.out.parent):
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(options.out, page)
    print(f"Wrote {options.out}: {len(runs)} runs, {len(page) / 2**20:.1f} MiB.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cli report", description=__doc__)
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        type=Path,
        help="folder of a run, runs/NAME/version_N, or runs/NAME for its newest version, or one that a test wrote into",
    )
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="the page to write")
    parser.add_argument("--title", help="its heading; by default the names of the runs")
    parser.add_argument(
        "--results_dir", type=Path, default=Path("results"), help="holds references.yaml, the published figures"
    )
    return parser
