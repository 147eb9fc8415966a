"""Find the objects in images by a trained model and write them in every format asked for."""

import argparse
import math
from contextlib import suppress
from pathlib import Path
from typing import get_args

from karyon.commands.options import OptionParser, add_max_size, memory
from karyon.commands.shards import WHOLE, Shard
from karyon.commands.workers import ALONE, Count
from karyon.io.formats import DEFAULT, Format
from karyon.model_names import DEFAULT as DEFAULT_MODEL


def segment(args: list[str], prog: str) -> int:
    """Segments the images that are not done yet.

    Args:
        args: of the command line, after ``segment``.
        prog: what the user has typed before.

    Returns:
        0 if all images are done, 1 if some could not be, 130 after Ctrl-C, 143 where a scheduler has ended it.

    Raises:
        DataError: nothing can be done: no image, no model, no place to write to.
    """
    options = _parser(prog).parse_args(args)
    from karyon.commands.segmentation import segment_images

    return segment_images(options)


def _diameter(text: str) -> float | str | None:
    """As `_length`; None for ``none``."""
    return None if text == "none" else _length(text)


def _length(text: str) -> float | str:
    """A number of px; or ``auto``, or a number of um with its unit, as they stand."""
    if text == "auto":
        return text
    in_um = next((text.removesuffix(unit) for unit in ("um", "µm", "μm") if text.endswith(unit)), None)
    with suppress(ValueError):
        return _size(text) if in_um is None else f"{_size(in_um):g}um"
    raise argparse.ArgumentTypeError(f"{text} is not a size: expected px, such as 30, or um, such as 12um, or auto")


def _pixel_size(text: str) -> float:
    with suppress(ValueError):
        return _size(text.removesuffix("um"))
    raise argparse.ArgumentTypeError(f"{text} is not the size of a pixel: expected um, such as 0.325")


def _size(text: str) -> float:
    if not 0 < (value := float(text)) < math.inf:
        raise ValueError(text)
    return value


def _share(text: str) -> float:
    with suppress(ValueError):
        if 0 <= (value := float(text)) <= 1:
            return value
    raise argparse.ArgumentTypeError(f"{text} is not a share: expected a number from 0 to 1")


def _count(text: str) -> int:
    with suppress(ValueError):
        if (value := int(text)) >= 0:
            return value
    raise argparse.ArgumentTypeError(f"{text} is not a number of planes or frames: expected 0, 1, ...")


def _channel(text: str) -> int | list[int]:
    with suppress(ValueError):
        if min(values := [int(part) for part in text.split(",")]) > 0 and len(values) in (1, 3):
            return values if len(values) == 3 else values[0]
    raise argparse.ArgumentTypeError(f"{text} is not a channel: expected 1, 2, ..., or three such as 1,2,3")


def _parser(prog: str) -> OptionParser:
    parser = OptionParser(
        prog=prog,
        description=f"{__doc__} The same command again goes on after a stop. Exit code: 0 all done, 1 some files "
        "failed, 2 nothing can be done, 130 interrupted, 141 nobody reads what it says, 143 ended by a scheduler.",
    )
    parser.add_argument(
        "paths", metavar="PATH", nargs="+", help="files, folders (with all below) or patterns; TIFF, PNG, JPEG, ..."
    )
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help="name of a model of Karyon's, folder of a bundle, or checkpoint"
    )
    parser.add_argument(
        "--trust", choices=("mine",), help="run code of your own that a bundle names, as any program; see SECURITY.md"
    )
    parser.add_argument("--out", type=Path, default=Path("segmented"), help="folder for the results")
    parser.add_argument(
        "--formats", nargs="+", choices=get_args(Format), default=list(DEFAULT), help="beside counts.csv"
    )
    parser.add_argument(
        "--channel",
        type=_channel,
        metavar="N",
        help="which channel holds the objects, from 1; three (1,2,3) are taken as red, green and blue",
    )
    parser.add_argument(
        "--background",
        choices=("auto", "dark", "bright"),
        default="auto",
        help="of the images; auto decides for each image and says where one was inverted",
    )
    parser.add_argument(
        "--nan",
        choices=("refuse", "background"),
        default="refuse",
        help="what pixels that are not a number are: an error, or background, as beyond the edge of a stitched image",
    )
    parser.add_argument(
        "--diameter",
        type=_diameter,
        default="auto",
        help="typical diameter of the objects in px, or in um with the unit (12um): the image is rescaled to the "
        "model's size; auto finds it in a first look; none keeps the image's scale",
    )
    parser.add_argument(
        "--pixel-size", type=_pixel_size, metavar="UM", help="side of a pixel in um, of the files that do not name it"
    )
    parser.add_argument(
        "--everywhere", action="store_true", help="look at the empty glass of a slide, too; see looked_at/ in --out"
    )
    parser.add_argument(
        "--rotations", "--tta", action="store_true", help="average over rotations and flips; eight times the work"
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="bf16: about half the time on recent CPUs and GPUs; single pixels may differ",
    )
    parser.add_argument("--device", default="auto", help="auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:1, mps")
    parser.add_argument(
        "--shard",
        type=Shard.parse,
        default=WHOLE,
        metavar="K/N",
        help="the K-th of N parts of the files, for jobs side by side; the same command without it then joins all",
    )
    parser.add_argument(
        "--workers",
        type=Count.parse,
        default=ALONE,
        metavar="N",
        help="processes of Dask for the blocks of large images, on this machine; slurm:N, as jobs of SLURM",
    )
    parser.add_argument(
        "--worker-options",
        default="",
        metavar="OPTIONS",
        help="of sbatch for each of these jobs, such as --worker-options='--partition=gpu --gpus=1 --mem=16G'",
    )
    parser.add_argument(
        "--memory", type=memory, default=math.inf, metavar="4G", help="that blocks may take; smaller ones are slower"
    )
    add_max_size(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="say of each file what would be read, and how long; nothing is written"
    )
    parser.add_argument("--overwrite", action="store_true", help="begin anew in a folder that holds results")
    _add_linking(parser)
    return parser


def _add_linking(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("linking", "3-D objects out of the planes of stacks, and tracks out of frames")
    group.add_argument(
        "--link",
        choices=("z", "t", "zt"),
        help="z: planes to 3-D objects; t: frames to tracks; zt: frames of planes to tracks of 3-D objects",
    )
    group.add_argument(
        "--link-distance",
        type=_length,
        default="auto",
        help="that an object moves from frame to frame at most, in px or with the unit (12um); auto: the median "
        "diameter of the objects; farther objects are linked where they overlap",
    )
    group.add_argument(
        "--link-overlap",
        type=_share,
        default=0.5,
        metavar="SHARE",
        help="of the smaller of two objects that has to lie in the other, of planes next to each other",
    )
    group.add_argument(
        "--link-gap", type=_count, default=1, metavar="N", help="planes or frames in which an object may be missing"
    )
    group.add_argument(
        "--link-neck",
        type=_share,
        default=0.5,
        metavar="SHARE",
        help="objects that touch in depth are cut where a section is smaller than this share of the largest above and "
        "below; 0 never cuts, as for neurites",
    )
    group.add_argument(
        "--link-planes", type=_count, default=1, metavar="N", help="leave 3-D objects of fewer planes out"
    )
    group.add_argument(
        "--z-step", type=_pixel_size, metavar="UM", help="from plane to plane in um, of the files that do not name it"
    )
