"""Make a model bundle, with a file for ONNX Runtime, to keep, to share, and to segment images with."""

from pathlib import Path

from karyon.commands.options import OptionParser

WEIGHTS = ("safetensors", "torch")


def export(args: list[str], prog: str) -> None:
    """Writes the bundle, and reads it back.

    Args:
        args: of the command line, after ``export``.
        prog: what the user has typed before.

    Raises:
        DataError: a file is missing or damaged, or the model cannot be kept as a bundle.
    """
    options = _parser(prog).parse_args(args)
    from cli.bundle_export import export_bundle

    export_bundle(options)


def _parser(prog: str) -> OptionParser:
    parser = OptionParser(prog=prog, description=__doc__)
    parser.add_argument(
        "source",
        metavar="SOURCE",
        type=Path,
        help="a run's checkpoint, such as best.ckpt; of two stages the config, such as configs/dsb2018/two-stage.yaml; "
        "a model of Karyon's, such as nuclei, or a bundle",
    )
    written = parser.add_mutually_exclusive_group()
    written.add_argument(
        "--out", type=Path, help="folder of the bundle; RUN/bundle by default, of a model of Karyon's its name"
    )
    written.add_argument(
        "--bioimageio", metavar="ZIP", type=Path, help="write a package for BioImage.IO's zoo instead of a folder"
    )
    parser.add_argument(
        "--example", metavar="IMAGE", type=Path, help="for the package's cover and test; one is drawn by default"
    )
    parser.add_argument("--author", action="append", default=[], help="of the package; once for each")
    parser.add_argument("--name", help="of the model; the run's by default")
    parser.add_argument("--half", action="store_true", help="keep the weights in half precision, half the size")
    parser.add_argument("--format", choices=WEIGHTS, default="safetensors", help="of the weights")
    parser.add_argument("--licence", help="of the weights, for the card: the data's where it binds, else not stated")
    parser.add_argument(
        "--trust", choices=("mine",), help="run code of your own that the run's config names; see SECURITY.md"
    )
    parser.add_argument("--diameter", type=float, help="of the objects, px; measured on the training data by default")
    parser.add_argument(
        "--pixel-size",
        type=float,
        help="of the training images, um, where all have one: images are then brought to that scale, not to the size "
        "of their objects",
    )
    parser.add_argument(
        "--doubt-below", type=float, help="segment calls images doubtful whose objects have a lower mean score"
    )
    return parser
