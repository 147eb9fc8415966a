"""Annotation of QuPath becomes the label image that QuPath itself would show."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_annotation import IMAGE, SIZE, feature, ring, save

from karyon.layouts.all_layouts import find_layout
from karyon.layouts.qupath import QuPath


def test_qupath_in_each_form_that_it_exports(tmp_path: Path) -> None:
    features = [
        feature("Polygon", [ring(2, 2, 6), ring(4, 4, 2)]),
        feature("MultiPolygon", [[ring(20, 12, 3)], [ring(25, 12, 3)]]),
        feature("Polygon", [ring(7, 2, 4)]),
    ]
    expected = np.zeros(SIZE, int)
    expected[2:8, 2:8], expected[4:6, 4:6], expected[12:15, 20:23], expected[12:15, 25:28] = 1, 0, 2, 2
    expected[2:6, 7:11] = 3
    forms = {"a": {"type": "FeatureCollection", "features": features}, "b": features, "c": features[2]}
    for name, form in forms.items():
        save(tmp_path / "images" / f"{name}.tif", IMAGE)
        save(tmp_path / "geojson" / (f"{name}.geojson" if name != "b" else "b.tif.geojson"), form)
    save(tmp_path / "images" / "d.tif", IMAGE)
    save(tmp_path / "geojson" / "d.geojson", {"type": "FeatureCollection", "features": []})
    beside = tmp_path / "beside"
    beside.mkdir()
    shutil.copy(tmp_path / "images" / "a.tif", beside)
    shutil.copy(tmp_path / "geojson" / "a.geojson", beside)
    assert (QuPath().images(beside)[0].read()[1] == expected).all()
    shutil.rmtree(beside)
    assert find_layout(tmp_path) == QuPath()
    a, b, c, d = (image.read()[1] for image in QuPath().images(tmp_path))
    assert (a == expected).all() and (b == expected).all()
    assert (c == (expected == 3)).all() and not d.any()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("text", "is not GeoJSON of objects"),
        ([3], "is not GeoJSON of objects"),
        ([feature("Point", [1, 2])], "object 1 is not a polygon but Point"),
        ([{"type": "Feature", "geometry": None}], "object 1 is not a polygon but nothing"),
        ([{"type": "Feature", "geometry": "Polygon"}], "object 1 is not a polygon but nothing"),
        ([feature("MultiPolygon", None)], "object 1 is not a polygon but MultiPolygon"),
        ([feature("MultiPolygon", [3])], "object 1 is not a polygon but MultiPolygon"),
        ([feature("MultiPolygon", [])], "object 1 has no pixel of its own"),
        ([feature("Polygon", 3)], "object 1 is not a polygon"),
        ([feature("Polygon", [])], "object 1 has no pixel of its own"),
        ([feature("Polygon", [ring(1, 1, 3)]), feature("Polygon", [[3]])], "object 2 has a ring that is none"),
        (
            [feature("Polygon", [ring(1, 1, 9)]), feature("Polygon", [ring(2, 2, 3)], "detection")],
            "several kinds (annotation, detection): select one kind",
        ),
    ],
)
def test_bad_geojson_is_refused(content: Any, sentence: str, tmp_path: Path, refused: Callable) -> None:
    save(tmp_path / "a.tif", IMAGE)
    save(tmp_path / "a.geojson", content)
    with refused(tmp_path / "a.geojson", sentence):
        QuPath().images(tmp_path)[0].read()
