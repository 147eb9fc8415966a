"""Find the objects in images by a trained model and write them in every format asked for."""

import argparse
import math
from contextlib import suppress
from pathlib import Path
from typing import get_args

from karyon.commands.shards import WHOLE, Shard
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


def _diameter(text: str) -> float | str:
    if text == "auto":
        return text
    with suppress(ValueError):
        if 0 < (value := float(text)) < math.inf:
            return value
    raise argparse.ArgumentTypeError(f"{text} is not a size: expected a number of px above 0, or auto")


def _channel(text: str) -> int:
    with suppress(ValueError):
        if (value := int(text)) > 0:
            return value
    raise argparse.ArgumentTypeError(f"{text} is not a channel: expected 1, 2, ...")


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description=f"{__doc__} The same command again goes on after a stop. Exit code: 0 all done, 1 some files "
        "failed, 2 nothing can be done, 130 interrupted, 143 ended by a scheduler.",
    )
    parser.add_argument(
        "paths", metavar="PATH", nargs="+", help="files, folders (with all below) or patterns; TIFF, PNG, JPEG, ..."
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name of a model of Karyon's, or folder of a bundle")
    parser.add_argument(
        "--trust", choices=("mine",), help="run code of your own that a bundle names, as any program; see SECURITY.md"
    )
    parser.add_argument("--out", type=Path, default=Path("segmented"), help="folder for the results")
    parser.add_argument(
        "--formats", nargs="+", choices=get_args(Format), default=list(DEFAULT), help="beside counts.csv"
    )
    parser.add_argument("--channel", type=_channel, help="which channel holds the objects, from 1")
    parser.add_argument(
        "--background",
        choices=("auto", "dark", "bright"),
        default="auto",
        help="of the images; auto decides for each image and says where one was inverted",
    )
    parser.add_argument(
        "--diameter",
        type=_diameter,
        help="typical diameter of the objects in px: the image is rescaled to the model's size; auto: two passes, "
        "upscale images of small objects",
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
    parser.add_argument("--overwrite", action="store_true", help="begin anew in a folder that holds results")
    return parser
