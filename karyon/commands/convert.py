"""Bring annotated images from one tool's layout into another's."""

from pathlib import Path
from typing import get_args

from karyon.commands.options import OptionParser, add_max_size
from karyon.layouts import LayoutName

NAMES = get_args(LayoutName)
LOSSES = (
    "Image files are copied as they are, and every pixel of the label image is kept, holes and parts of objects too; "
    "polygons go along the edges of pixels. What is lost: dsb2018 cannot say that an image holds no object, and has "
    "PNG alone, so that other images are written anew and those of floats are refused; karyon, stardist and cellpose "
    "keep ids (16 bit, 32 bit above 65,535), the others number the objects 1, 2, ... in their order; where polygons or "
    "run lengths overlap, the later object owns the pixels (in aperio the earlier one); polygons that do not go along "
    "the edges of pixels become the pixels that they surround; categories, scores and crowd regions are left out."
)


def convert(args: list[str], prog: str) -> int:
    """Converts the images that are not converted yet.

    Args:
        args: of the command line, after ``convert``.
        prog: what the user has typed before.

    Returns:
        0 if all images are converted, 1 if some could not be, 130 after Ctrl-C, 143 where a scheduler has ended it.

    Raises:
        DataError: nothing can be done: no layout, no image, no place to write to.
    """
    options = _parser(prog).parse_args(args)
    from karyon.commands.conversion import convert_images

    return convert_images(options.source, options.layout, options.to, options.out)


def _parser(prog: str) -> OptionParser:
    parser = OptionParser(
        prog=prog,
        description=f"{__doc__} {LOSSES} The same command again goes on after a stop. Exit code: 0 all done, 1 some "
        "images failed, 2 nothing can be done, 130 interrupted, 143 ended by a scheduler.",
    )
    parser.add_argument(
        "source", metavar="SOURCE", type=Path, help="folder; also a zip archive of dsb2018, a COCO file"
    )
    parser.add_argument("--to", choices=NAMES, required=True, help="the layout to write")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument(
        "--from", dest="layout", choices=NAMES, help="the layout of SOURCE; found out where it is not given"
    )
    add_max_size(parser)
    return parser
