from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cli.figure import WIDTH
from datamodules.drawing import draw_nuclei
from datamodules.reading import read_image
from lightning_modules.formats.files import png
from lightning_modules.overlay import GAP, side_by_side

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


def test_each_modality_has_its_row_before_any_has_two(run: Run, predictions: Path) -> None:
    assert run("figure", predictions, "--count", 3) == 0
    picture = read_image(predictions / "figure.png")
    assert rows(picture, predictions / "overlays") == ["image0", "image4", "image3"]
    assert run("figure", predictions) == 0
    assert len(rows(read_image(predictions / "figure.png"), predictions / "overlays")) == 5


def test_images_can_be_named(run: Run, predictions: Path, tmp_path: Path) -> None:
    assert run("figure", predictions, "--images", "image2", "image1", "--out", tmp_path / "a.png") == 0
    assert rows(read_image(tmp_path / "a.png"), predictions / "overlays") == ["image2", "image1"]


def test_what_is_missing_is_one_sentence(
    run: Run, predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("figure", tmp_path) == 2
    assert "There are no overlays in" in capsys.readouterr().err
    assert run("figure", predictions, "--images", "nobody") == 2
    assert "has no overlay of nobody" in capsys.readouterr().err
