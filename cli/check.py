"""Look at annotated images, or at the data of a config, for what would end a long training or spoil its figures."""

from karyon.commands import check as folders


def check(args: list[str], prog: str) -> int:
    """Looks at a folder, as `karyon.commands.check.check` does, or at the data of a config as its training would.

    Args:
        args: of the command line, after ``check``.
        prog: what the user has typed before.

    Returns:
        0 if nothing is wrong, or hints only; 1 if there are errors.

    Raises:
        DataError: there is no such data, or nowhere to write to.
    """
    parser = folders.results_parser(
        prog=prog,
        usage=f"{prog} FOLDER | --config FILE [options of fit] [--out FOLDER] [--json]",
        description=f"{__doc__} {folders.WHAT}; --config takes the data as fit would, and checks crops, batches and "
        f"anchors too. {folders.EXIT_CODES}",
    )
    parser.add_argument("--config", action="append", help="of a run; further options as for fit")
    options, rest = parser.parse_known_args(args)
    if not options.config:
        return folders.check(args, prog)
    from cli.check_data import of_config
    from karyon.commands.checking import check_images

    configs = [arg for config in options.config for arg in ("--config", config)]
    return check_images(of_config([*configs, *rest]), options.out, options.json)
