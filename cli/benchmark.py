"""``python -m cli benchmark``: models and a classical baseline on annotated folders that none of them has seen."""

from pathlib import Path

from karyon.commands.options import OptionParser
from karyon.model_names import DEFAULT


def benchmark(args: list[str], prog: str) -> int:
    """Segments every image of every set by every model, and writes the scores.

    Args:
        args: of the command line, after ``benchmark``.
        prog: what the user has typed before.

    Returns:
        0 if all images are done, 1 if some could not be, 130 after Ctrl-C, 143 where a scheduler has ended it.

    Raises:
        DataError: nothing can be done: no set, no model, no place to write to.
    """
    options = _parser(prog).parse_args(args)
    from cli.benchmark_run import run

    return run(options)


def _parser(prog: str) -> OptionParser:
    parser = OptionParser(
        prog=prog,
        description=f"{__doc__} Writes benchmark.md (a table a set), benchmark.png, benchmark.json, and of every "
        "image the label image and a picture. The same command again goes on after a stop.",
    )
    parser.add_argument(
        "folder", type=Path, help="a folder of sets, each laid out as training wants it: images/ and labels/, ..."
    )
    parser.add_argument(
        "--model", nargs="+", default=[DEFAULT], metavar="MODEL", help="models of Karyon's, or folders of bundles"
    )
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="of the sets in the folder, those to take; all")
    parser.add_argument("--out", type=Path, default=Path("benchmark"), help="folder for the results")
    parser.add_argument("--device", default="auto", help="auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:1, mps")
    return parser
