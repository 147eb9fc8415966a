"""QuPath's GeoJSON: a file of polygons for each image."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from karyon.errors import DataError
from karyon.io.encoding import geojson
from karyon.io.reading import read_bytes
from karyon.labels import LabelImage
from karyon.layouts.files import list_images
from karyon.layouts.protocol import AnnotatedImage, LayoutWriter, Size
from karyon.layouts.regions import Spans, paint, polygon_spans
from karyon.layouts.writing import PairWriter, prediction


@dataclass(frozen=True)
class QuPath:
    """Images, and the objects that QuPath exports of each, beside them or in two folders.

    ::

        images/a.tif
        geojson/a.geojson     or a.tif.geojson

    Polygons may have holes and several parts. Ids follow the order of the objects in the file, and where they overlap,
    the later one owns the pixels. Classes and measurements are left aside; of a cell, its outer outline is taken. A
    file with objects of several kinds, such as an annotation around detections, is refused.

    Source: https://qupath.readthedocs.io/en/stable/docs/advanced/exporting_annotations.html
    """

    @property
    def writer(self) -> LayoutWriter:
        return PairWriter("images/{name}{suffix}", "geojson/{name}.geojson", _geojson)

    def matches(self, root: Path) -> bool:
        return any(root.rglob("*.geojson"))

    def images(self, root: Path) -> list[AnnotatedImage]:
        pictures, outlines = (root / name if (root / name).is_dir() else root for name in ("images", "geojson"))
        images = []
        for name, file in list_images(pictures).items():
            paths = [outlines / f"{name}.geojson", outlines / f"{name}{file.suffix}.geojson"]
            path = next((path for path in paths if path.is_file()), None)
            problem = "" if path else f"{file} has no outlines: expected {paths[0]}."
            labels = partial(_labels, path or paths[0])
            images.append(AnnotatedImage(name, file, partial(read_bytes, file), labels, problem))
        return images


def _geojson(image: AnnotatedImage, labels: LabelImage) -> bytes:
    return geojson(prediction(image, labels), "annotation")


def _labels(path: Path, size: Size) -> LabelImage:
    try:
        content = json.loads(read_bytes(path))
        features = content if isinstance(content, list) else content.get("features", [content])
        kinds = {_kind(feature) for feature in features}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise DataError(f"{path} is not GeoJSON of objects: export them from QuPath again.") from None
    if len(kinds) > 1:
        raise DataError(
            f"{path} holds objects of several kinds ({', '.join(sorted(kinds))}): select one kind in QuPath and export "
            "only that."
        )
    named = ((f"{path}: object {number}", feature) for number, feature in enumerate(features, start=1))
    return paint(((name, _spans(feature, size, name)) for name, feature in named), size)


def _kind(feature: dict[str, Any]) -> str:
    return str((feature.get("properties") or {}).get("objectType", "object"))


def _spans(feature: dict[str, Any], size: Size, name: str) -> Spans:
    match feature.get("geometry"):
        case {"type": "Polygon", "coordinates": list(rings)}:
            polygons = [rings]
        case {"type": "MultiPolygon", "coordinates": list(parts)} if all(isinstance(part, list) for part in parts):
            polygons = parts
        case geometry:
            kind = geometry.get("type") if isinstance(geometry, dict) else "nothing"
            raise DataError(f"{name} is not a polygon but {kind}: remove it, or export polygons alone.")
    return np.concatenate([np.zeros((0, 2), np.int64), *(polygon_spans(rings, size, name) for rings in polygons)])
