"""``python -m cli figure``: images of several modalities, input beside result, as the figure of R1 has them."""

import argparse
from itertools import chain, zip_longest
from pathlib import Path

import cv2
import numpy as np

from datamodules.image_type import image_type
from datamodules.reading import read_image
from datamodules.sample import DataError
from lightning_modules.formats.files import png
from lightning_modules.formats.folder import write_whole, writing_to
from lightning_modules.overlay import CAPTION, GAP, PAPER, Picture

WIDTH = 1024  # px


def figure(args: list[str]) -> None:
    """Puts overlays that predict or test has written into one picture.

    Args:
        args: of the command line, after ``figure``.

    Raises:
        DataError: there are no overlays, or none of a name.
    """
    options = _parser().parse_args(args)
    files = sorted((options.folder / "overlays").glob("*.png"))
    if not files:
        raise DataError(f"There are no overlays in {options.folder}: name the folder that predict or test wrote into.")
    chosen = _named(files, options.images) if options.images else _distinct(files, options.count)
    out = options.out or options.folder / "figure.png"
    with writing_to(out.parent):
        write_whole(out, png(above_each_other([read_image(path) for path in chosen])))
    print(f"Wrote {out}: {len(chosen)} images.")


def _named(files: list[Path], names: list[str]) -> list[Path]:
    # The files of a test begin with the image's score.
    found = [next((path for path in files if path.stem.endswith(name)), None) for name in names]
    if None in found:
        raise DataError(f"{files[0].parent} has no overlay of {names[found.index(None)]}: name images that it holds.")
    return [path for path in found if path is not None]


def _distinct(files: list[Path], count: int) -> list[Path]:
    """One image of each modality: of another image type, or of another size, as another microscope has it."""
    types: dict[str, dict[tuple[int, ...], list[Path]]] = {}
    for path in files:
        picture = read_image(path)
        # Within the input, whether two or three panels lie side by side.
        kind = image_type(picture[CAPTION:, : picture.shape[1] // 3 - GAP])
        types.setdefault(kind, {}).setdefault(picture.shape, []).append(path)
    # A type after the other has its turn; only then further images of the same modality.
    first = [[same[0] for same in sizes.values()] for sizes in types.values()]
    further = [[path for same in sizes.values() for path in same[1:]] for sizes in types.values()]
    turns = chain(*zip_longest(*first), *zip_longest(*further))
    return [path for path in turns if path is not None][:count]


def above_each_other(pictures: list[Picture]) -> Picture:
    """Brings pictures to one width and stacks them, uint8 (H, 1024, 3)."""
    rows: list[Picture] = []
    for picture in pictures:
        size = (WIDTH, round(picture.shape[0] * WIDTH / picture.shape[1]))
        shrinks = picture.shape[1] > WIDTH
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        rows += [
            np.full((GAP, WIDTH, 3), PAPER, np.uint8),
            cv2.resize(picture, size, interpolation=method).astype(np.uint8),
        ]
    return np.concatenate(rows[1:])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cli figure", description=__doc__)
    parser.add_argument(
        "folder", type=Path, help="what predict or test wrote into, such as runs/NAME/version_0/predict"
    )
    parser.add_argument(
        "--count", type=int, default=5, help="number of images, each of another modality if there are so"
    )
    parser.add_argument("--images", nargs="+", help="names of images to take instead")
    parser.add_argument("--out", type=Path, help="the picture; figure.png in the folder by default")
    return parser
