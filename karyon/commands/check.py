"""Look at annotated images for what would end a long training or spoil its figures, before it begins."""

from pathlib import Path
from typing import Any

from karyon.commands.options import OptionParser, add_max_size

WHAT = "FOLDER holds images/ and labels/, the Data Science Bowl's stage1_train, or the layout of another tool"
EXIT_CODES = "Exit code: 0 nothing is wrong, or hints only; 1 errors; 2 nothing can be checked; 130 interrupted."


def check(args: list[str], prog: str) -> int:
    """Looks at every image of a folder once, says what it has found, and draws a contact sheet.

    Args:
        args: of the command line, after ``check``.
        prog: what the user has typed before.

    Returns:
        0 if nothing is wrong, or hints only; 1 if there are errors.

    Raises:
        DataError: there is no such data, or nowhere to write to.
    """
    parser = results_parser(prog=prog, description=f"{__doc__} {WHAT}. {EXIT_CODES}")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="of annotated images")
    options = parser.parse_args(args)
    from karyon.commands.checking import check_images, of_folder

    return check_images(of_folder(options.folder), options.out, options.json)


def results_parser(**kwargs: Any) -> OptionParser:
    """A parser of the options that say where the results go."""
    parser = OptionParser(**kwargs)
    parser.add_argument("--out", type=Path, default=Path("check"), help="folder for contact-sheet.png")
    parser.add_argument("--json", action="store_true", help="write findings.json as well, with the names of all files")
    add_max_size(parser)
    return parser
