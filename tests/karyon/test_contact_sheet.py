"""The contact sheet shows every image at its place, its objects, and what is to be said of it."""

import numpy as np

from karyon.pictures.contact_sheet import COLUMNS, LINE, PANEL, WARNING, Cell, contact_sheet
from karyon.pictures.jet import colour_instances
from karyon.pictures.overlay import GAP, INK, PAPER

WIDTH, HEIGHT = 2 * PANEL + 3 * GAP, PANEL + 2 * LINE + 2 * GAP


def panels(sheet: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Input and annotation of a cell."""
    row, column = divmod(number, COLUMNS)
    top, left = row * HEIGHT + GAP + 2 * LINE, column * WIDTH + GAP
    right = left + PANEL + GAP
    return sheet[top : top + PANEL, left : left + PANEL], sheet[top : top + PANEL, right : right + PANEL]


def lines(sheet: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The two lines of text above a cell's panels."""
    row, column = divmod(number, COLUMNS)
    cell = sheet[row * HEIGHT + GAP : (row + 1) * HEIGHT, column * WIDTH : (column + 1) * WIDTH]
    return cell[:LINE], cell[LINE : 2 * LINE]


def holds(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((picture == colour).all(axis=-1).any())


def test_every_image_has_its_place() -> None:
    greys = [20 * k + 60 for k in range(8)]
    # Two shades, so that the picture is not stretched.
    sources = [
        np.where(np.arange(PANEL) < 90, grey, 255).astype(np.uint8) * np.ones((PANEL, 1), np.uint8) for grey in greys
    ]
    sheet = contact_sheet([Cell(str(grey), source, None) for grey, source in zip(greys, sources, strict=True)])
    assert sheet.shape == (2 * HEIGHT, COLUMNS * WIDTH, 3) and sheet.dtype == np.uint8
    for number, source in enumerate(sources):
        assert (panels(sheet, number)[0] == source[..., None]).all()
    assert (panels(sheet, 8)[0] == PAPER).all()
    assert contact_sheet([Cell("a", sources[0], None)]).shape == (HEIGHT, WIDTH, 3)


def test_shapes_are_kept_and_small_images_enlarged() -> None:
    labels = np.int32([[0, 7], [2**31 - 1, 0], [0, 0]])
    _, drawn = panels(contact_sheet([Cell("a", None, labels)]), 0)
    # 3 x 2 px become 180 x 120; ids as high as can be take no more room than low ones.
    first, second = colour_instances(np.array([[1, 2]]))[0]
    assert (drawn[:60, 60:120] == first).all() and (drawn[60:120, :60] == second).all()
    assert (drawn[:, 120:] == PAPER).all() and (drawn[:60, :60] == 0).all()


def test_no_object_of_a_large_image_is_lost() -> None:
    labels = np.zeros((1000, 1500), np.int32)
    labels[400:404, 600:604] = 1
    _, drawn = panels(contact_sheet([Cell("a", None, labels)]), 0)
    assert drawn[47:50, 71:74].any() and not drawn[:40].any()


def test_what_is_no_label_image_is_shown_as_it_is() -> None:
    colours = np.zeros((9, 9, 3), np.uint8)
    colours[..., 0] = 255
    _, drawn = panels(contact_sheet([Cell("a", None, colours)]), 0)
    assert (drawn == (255, 0, 0)).all()


def test_remarks_stand_out() -> None:
    labels = np.eye(9, dtype=np.int32)
    sheet = contact_sheet([Cell("one", labels, labels), Cell("two", labels, labels, "torn"), Cell("", None, None)])
    assert holds(lines(sheet, 0)[0], INK) and holds(lines(sheet, 0)[1], INK)
    assert not holds(lines(sheet, 0)[1], WARNING) and holds(lines(sheet, 1)[1], WARNING)
    assert (lines(sheet, 2)[1] == PAPER).all()
