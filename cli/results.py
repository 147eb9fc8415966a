"""``python -m cli results``: keeps the records of tested runs and writes RESULTS.md and its figure from them."""

import argparse
from pathlib import Path

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


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description=f"{__doc__} For maintainers, in a clone of the project.")
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
