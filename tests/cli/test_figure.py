from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cli.figure import WIDTH
from datamodules.drawing import draw_nuclei
from karyon.io.encoding import png
from karyon.io.reading import read_image
from karyon.pictures.collage import row
from karyon.pictures.overlay import GAP, captioned, side_by_side

Run = Callable[..., int]


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """Overlays of three fluorescence images of one size, one of another, and one of tissue."""
    (tmp_path / "predict" / "overlays").mkdir(parents=True)
    for k, (modality, size) in enumerate(
        [("fluorescence", (64, 64))] * 3 + [("fluorescence", (64, 96)), ("histology", (64, 64))]
    ):
        pixels, labels = draw_nuclei(np.random.default_rng(k), size, modality)
        (tmp_path / "predict" / "overlays" / f"image{k}.png").write_bytes(png(side_by_side(pixels, labels)))
    return tmp_path / "predict"


def rows(picture: np.ndarray, overlays: Path) -> list[str]:
    """Names of the overlays above each other in a picture, by their numbers of pixels and their colours."""
    found, top = [], 0
    while top < len(picture):
        for path in sorted(overlays.glob("*.png")):
            overlay = read_image(path)
            height = round(overlay.shape[0] * WIDTH / overlay.shape[1])
            part = picture[top : top + height]
            if len(part) == height and abs(part.mean(axis=(0, 1)) - overlay.mean(axis=(0, 1))).max() < 0.5:
                found.append(path.stem)
                break
        top += height + GAP
    return found


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # Each modality has its row before any has two.
        (["--count", 3], ["image0", "image4", "image3"]),
        ([], ["image0", "image4", "image3", "image1", "image2"]),
        (["--images", "image2", "image1"], ["image2", "image1"]),
    ],
)
def test_modalities_first_or_images_by_name(
    options: list[object], expected: list[str], run: Run, predictions: Path, tmp_path: Path
) -> None:
    assert run("figure", predictions, *options, "--out", tmp_path / "a.png") == 0
    assert rows(read_image(tmp_path / "a.png"), predictions / "overlays") == expected


def test_a_side_makes_columns_of_the_squares_in_which_most_is_outlined(run: Run, predictions: Path) -> None:
    panels = [np.full((512, 512, 3), 9, np.uint8) for _ in range(2)]
    panels[1][300:320, 100:120] = 200
    for name in ("a", "b"):
        overlay = row([captioned(panel, "") for panel in panels])
        (predictions / "overlays" / f"{name}.png").write_bytes(png(overlay))
    assert run("figure", predictions, "--images", "a", "b", "--side", 20) == 0
    picture = read_image(predictions / "figure.png")
    side = (WIDTH - GAP) // 2
    assert picture.shape == (2 * side + GAP, 2 * side + GAP, 3)
    for left in (0, side + GAP):
        assert (picture[:side, left : left + side] == 9).all()
        assert (picture[-side:, left : left + side] == 200).all()


def test_what_is_missing_is_one_sentence(
    run: Run, predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for args, sentence in [
        ([tmp_path], "There are no overlays in"),
        ([predictions, "--of", "jet"], "There are no jet in"),
        ([predictions, "--images", "nobody"], "has no overlay of nobody"),
    ]:
        assert run("figure", *args) == 2
        assert sentence in capsys.readouterr().err
