"""``python -m cli figure``: images of several modalities in one picture, input beside result."""

from collections.abc import Sequence
from pathlib import Path

from karyon.commands.console import counted
from karyon.commands.options import OptionParser
from karyon.errors import DataError

WIDTH = 1024  # px


def figure(args: list[str], prog: str) -> None:
    """Puts overlays that predict or test has written into one picture, above each other.

    Args:
        args: of the command line, after ``figure``.
        prog: what the user has typed before.

    Raises:
        DataError: there are no overlays, or none of a name.
    """
    options = _parser(prog).parse_args(args)
    from karyon.io.encoding import png
    from karyon.io.reading import read_image
    from karyon.io.whole_files import write_whole, writing_to
    from karyon.pictures.collage import column, densest, panels_of, resized, row
    from karyon.pictures.overlay import GAP

    files = sorted((options.folder / options.of).glob("*.png"))
    if not files:
        raise DataError(
            f"There are no {options.of} in {options.folder}: name the folder that predict or test wrote into (scores "
            "and jet are of predict --writer.formats), or a set of benchmark and a method by --of."
        )
    chosen = _named(files, options.images) if options.images else _distinct(files)[: options.count]
    pictures = [read_image(path) for path in chosen]
    if options.side:
        # Of each image a column: its panels above each other.
        width = (WIDTH + GAP) // len(pictures) - GAP
        shown = [densest(panels_of(picture), options.side) for picture in pictures]
        whole = row([column([resized(panel, width) for panel in panels]) for panels in shown])
    else:
        whole = column([resized(picture, WIDTH) for picture in pictures])
    out = options.out or options.folder / "figure.png"
    with writing_to(out.parent):
        write_whole(out, png(whole))
    print(f"Wrote {out}: {counted(len(chosen), 'image')}.")


def _named(files: Sequence[Path], names: Sequence[str]) -> list[Path]:
    # The files of a test begin with the image's score.
    found = [next((path for path in files if path.stem.endswith(name)), None) for name in names]
    if None in found:
        raise DataError(f"{files[0].parent} has no overlay of {names[found.index(None)]}: name images that it holds.")
    return [path for path in found if path is not None]


def _distinct(files: Sequence[Path]) -> list[Path]:
    """All files, one of each modality first: of another image type, or size, as another microscope has it."""
    from karyon.image_type import image_type
    from karyon.io.reading import read_image
    from karyon.pictures.overlay import CAPTION, GAP

    seen: dict[str, dict[tuple[int, ...], int]] = {}
    ranked = []
    for path in files:
        picture = read_image(path)
        # Within the input, whether two or three panels lie side by side.
        sizes = seen.setdefault(image_type(picture[CAPTION:, : picture.shape[1] // 3 - GAP]), {})
        sizes[picture.shape] = sizes.get(picture.shape, 0) + 1
        ranked.append((sizes[picture.shape], list(sizes).index(picture.shape), path))
    return [path for *_, path in sorted(ranked)]


def _parser(prog: str) -> OptionParser:
    parser = OptionParser(prog=prog, description=__doc__)
    parser.add_argument(
        "folder", type=Path, help="what predict, test or segment wrote into, such as runs/NAME/version_0/predict"
    )
    parser.add_argument(
        "--of",
        default="overlays",
        help="folder of pictures in it: overlays; scores or jet (objects filled as R1's figure has them), where these "
        "formats were asked for; the method's name in a set of benchmark",
    )
    parser.add_argument("--count", type=int, default=5, help="number of images, of different modalities first")
    parser.add_argument("--images", nargs="+", help="names of images to take instead")
    parser.add_argument(
        "--side",
        type=int,
        help="show of each image a square of so many px of its overlay, where most is outlined, in a column",
    )
    parser.add_argument("--out", type=Path, help="the picture; figure.png in the folder by default")
    return parser
