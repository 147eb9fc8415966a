"""``python -m cli results``: keeps the records of tested runs and writes RESULTS.md, its pages and its figure."""

from pathlib import Path

from karyon.commands.options import OptionParser
from karyon.errors import DataError


def results(args: list[str], prog: str) -> None:
    """Calls the code in ``results/``, which a clone of the project has and an installed package has not.

    Args:
        args: of the command line, after ``results``.
        prog: what the user has typed before.

    Raises:
        DataError: that folder is missing, or a record cannot be used; nothing is written then.
    """
    options = _parser(prog).parse_args(args)
    try:
        from results.write import write
    except ModuleNotFoundError as error:
        raise DataError(f"There is no module {error.name}: run this in a clone of the project.") from None
    write(options.records, options.results_dir, options.output, options.run_id)


def _parser(prog: str) -> OptionParser:
    parser = OptionParser(
        prog=prog,
        description=f"{__doc__} In a clone of the project, and without --results_dir, these are the project's own: "
        "they take only runs and sets that results/references.yaml names. With it only that folder is written to.",
    )
    parser.add_argument(
        "records",
        metavar="RECORD",
        nargs="*",
        type=Path,
        help="record.json of a tested run, runs/NAME/version_N/test/record.json, to keep under the run's name; or "
        "benchmark.json of `benchmark`",
    )
    parser.add_argument("--as", dest="run_id", metavar="ID", help="keep the one RECORD under this name instead")
    parser.add_argument(
        "--results_dir", type=Path, help="folder for records/, the pages and figure.png; the project's results/"
    )
    parser.add_argument(
        "--output", type=Path, help="the first page; by default RESULTS.md in that folder, the project's above it"
    )
    return parser
