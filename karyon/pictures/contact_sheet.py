"""A contact sheet: many images of a data set at a glance, each beside its annotation, with remarks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from karyon.labels import relabel
from karyon.pictures.jet import Picture, paint_instances
from karyon.pictures.overlay import GAP, INK, PAPER, count_objects, display_image

COLUMNS = 6
PANEL, LINE = 180, 17  # px; side of a picture, height of a line of text
FONT, SCALE, LETTER = cv2.FONT_HERSHEY_SIMPLEX, 0.4, 7  # px; the width of a letter at that scale
WARNING = (255, 140, 110)
HOLLOW = (70, 70, 70)


@dataclass(frozen=True, eq=False)
class Cell:
    """One image of a contact sheet, two lines of text above it.

    Attributes:
        name: the middle of a long one is left out.
        source: pixels, (H, W) or (H, W, 3 RGB), any type; None leaves the place empty.
        labels: integers (H, W), 0 is background; or what stands in their place, shown as it is; None leaves it empty.
        remark: after the number of objects, in a warning colour.
    """

    name: str
    source: NDArray[Any] | None
    labels: NDArray[Any] | None
    remark: str = ""


def contact_sheet(cells: Sequence[Cell]) -> Picture:
    """Lays out images row by row, six in a row, the annotation to the right of each.

    Args:
        cells: at least one.

    Returns:
        uint8 (H, W, 3) RGB, all cells of one size.
    """
    height, width = PANEL + 2 * LINE + 2 * GAP, 2 * PANEL + 3 * GAP
    columns = min(COLUMNS, len(cells))
    sheet = np.full((-(-len(cells) // columns) * height, columns * width, 3), PAPER, np.uint8)
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        place = sheet[row * height : (row + 1) * height, column * width : (column + 1) * width]
        place[GAP:-GAP, GAP:-GAP] = _draw(cell)
    return sheet


def _draw(cell: Cell) -> Picture:
    picture = np.full((PANEL + 2 * LINE, 2 * PANEL + GAP, 3), PAPER, np.uint8)
    remarks = [cell.remark]
    for number, pixels in enumerate((cell.source, cell.labels)):
        left = number * (PANEL + GAP)
        place = picture[2 * LINE :, left : left + PANEL]
        if pixels is None:
            cv2.line(place, (0, 0), (PANEL, PANEL), HOLLOW, 1, cv2.LINE_AA)
            continue
        if number == 1 and pixels.ndim == 2 and np.issubdtype(pixels.dtype, np.integer):
            # Ids may be as high as can be.
            labels = relabel(pixels)
            remarks.insert(0, count_objects(labels))
            panel = _fit(labels, paint_instances)
        else:
            panel = _fit(pixels, display_image)
        place[: panel.shape[0], : panel.shape[1]] = panel
    _write(picture, LINE - 5, cell.name, INK)
    _write(picture, 2 * LINE - 5, ": ".join(filter(None, remarks)), WARNING if cell.remark else INK)
    return picture


def _fit(pixels: NDArray[Any], paint: Callable[[NDArray[Any]], Picture]) -> Picture:
    """A picture whose longer side is that of a panel; large ones are averaged, so that no object is lost."""
    longest = max(pixels.shape[:2])
    # Of a very large image a share of the pixels is enough.
    step = max(1, longest // (4 * PANEL))
    picture = paint(pixels[::step, ::step])
    size = [max(1, round(side * PANEL / longest)) for side in pixels.shape[1::-1]]
    method = cv2.INTER_AREA if longest > PANEL else cv2.INTER_NEAREST
    return cv2.resize(picture, size, interpolation=method).astype(np.uint8)


def _write(picture: Picture, bottom: int, text: str, colour: tuple[int, int, int]) -> None:
    cv2.putText(picture, elided(text, picture.shape[1] // LETTER), (3, bottom), FONT, SCALE, colour, 1, cv2.LINE_AA)


def elided(text: str, length: int) -> str:
    """A text of at most some letters, its middle left out: names differ at their ends.

    >>> elided("mine/images/plate-7.tif", 15)
    'mine/i...-7.tif'
    """
    half, rest = divmod(length - 3, 2)
    return text if len(text) <= length else f"{text[:half]}...{text[-half - rest :]}"
