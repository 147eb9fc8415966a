"""Regions of Aperio ImageScope become the label image that MoNuSeg's own script makes of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from foreign_annotation import IMAGE, SIZE, ring, save

from karyon.layouts.all_layouts import find_layout
from karyon.layouts.aperio import Aperio


def region(corners: list[list[float]], **attributes: str) -> str:
    given = "".join(f' {key}="{value}"' for key, value in attributes.items())
    vertices = "".join(f'<Vertex X="{x:.6f}" Y="{y:.6f}" Z="0"/>' for x, y in corners)
    return f"<Region{given}><Attributes/><Vertices>{vertices}</Vertices></Region>"


def annotate(path: Path, *layers: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    inside = "".join(f'<Annotation Id="1"><Regions>{regions}</Regions></Annotation>' for regions in layers)
    path.write_text(f'<Annotations MicronsPerPixel="0.252000">{inside}</Annotations>')


def test_layers_overlaps_holes_and_slips(tmp_path: Path) -> None:
    first = region(ring(2, 2, 6), Id="1", Type="0") + region(ring(6, 2, 6), Id="2") + region([[3, 3]], Id="3")
    # Between corners of pixels, and partly beyond the image.
    second = region(ring(20.2, 11.8, 3), Type="1") + region(ring(27, 17, 9)) + region(ring(3, 3, 2), Id="9")
    hole = region(ring(9, 3, 2), NegativeROA="1")
    annotate(tmp_path / "Annotations" / "a.xml", first, second + hole)
    save(tmp_path / "Tissue Images" / "a.tif", IMAGE)
    expected = np.zeros(SIZE, int)
    expected[2:8, 6:12], expected[2:8, 2:8], expected[12:15, 20:23], expected[17:, 27:] = 2, 1, 3, 4
    expected[3:5, 9:11] = 0
    assert find_layout(tmp_path) == Aperio()
    (image,) = Aperio().images(tmp_path)
    with pytest.warns(UserWarning, match="region 3, .*region 9: left out, since it has no pixel of its own"):
        assert image.name == "a" and (image.read()[1] == expected).all()
    annotate(tmp_path / "test" / "b.xml")
    save(tmp_path / "test" / "b.tif", IMAGE)
    assert not Aperio().images(tmp_path / "test")[0].read()[1].any()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("<Annotations", "is not XML"),
        (
            f"<Annotations>{region([[1, 1], [9, 1]], Id='7', Type='3')}</Annotations>",
            "region 7 is an ellipse, an arrow",
        ),
        ("<Annotations><Region><Vertex X='1'/></Region></Annotations>", "region 1 has corners that are none"),
        (
            f"<Annotations>{region([[1, 1], [9, 1], [9, float('nan')]])}</Annotations>",
            "region 1 has a ring that is none",
        ),
    ],
)
def test_bad_xml_is_refused(content: str, sentence: str, tmp_path: Path, refused: Callable) -> None:
    save(tmp_path / "a.tif", IMAGE)
    (tmp_path / "a.xml").write_text(content)
    with refused(tmp_path / "a.xml", sentence):
        Aperio().images(tmp_path)[0].read()
