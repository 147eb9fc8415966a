"""Aperio ImageScope's XML: a file of outlines for each image, as MoNuSeg and other sets of stained tissue have it."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from karyon.errors import DataError
from karyon.io.outlines import Polygon, outlines
from karyon.io.reading import read_bytes
from karyon.labels import LabelImage, relabel
from karyon.layouts.files import list_images
from karyon.layouts.protocol import AnnotatedImage, LayoutWriter, Size
from karyon.layouts.regions import cover, polygon_spans
from karyon.layouts.writing import PairWriter, numbered

Corners = list[tuple[float, float]]
POLYGON, RECTANGLE = "0", "1"  # types of regions; the others are ellipses, arrows and rulers


@dataclass(frozen=True)
class Aperio:
    """Images, and the regions that ImageScope keeps of each, beside them or in two folders.

    ::

        Tissue Images/a.tif     or images/
        Annotations/a.xml

    Ids follow the order of the regions, in all layers, and where they overlap, the earlier one owns the pixels, as in
    MoNuSeg's own script. Negative regions are background. Regions without a pixel of their own, such as a click leaves,
    are left out with a warning. Names of layers and measurements are left aside.

    Source: https://monuseg.grand-challenge.org/Data/, he_to_binary_mask_final.m
    """

    @property
    def writer(self) -> LayoutWriter:
        return PairWriter("Tissue Images/{name}{suffix}", "Annotations/{name}.xml", _encode)

    def matches(self, root: Path) -> bool:
        return any(b"<Annotations" in read_bytes(path, 4096) for path in root.rglob("*.xml"))

    def images(self, root: Path) -> list[AnnotatedImage]:
        pictures = next((root / name for name in ("Tissue Images", "images") if (root / name).is_dir()), root)
        regions = root / "Annotations" if (root / "Annotations").is_dir() else root
        images = []
        for name, file in list_images(pictures).items():
            path = regions / f"{name}.xml"
            problem = "" if path.is_file() else f"{file} has no outlines: expected {path}."
            images.append(AnnotatedImage(name, file, partial(read_bytes, file), partial(_labels, path), problem))
        return images


def _labels(path: Path, size: Size) -> LabelImage:
    names, objects, negative = [], [], []
    for name, region in _regions(path):
        corners = _corners(name, region)
        spans = polygon_spans([corners], size, name) if len(corners) > 2 else np.zeros((0, 2), np.int64)
        if region.get("NegativeROA") == "1":
            negative.append(spans)
        else:
            names.append(name)
            objects.append(spans)
    count = len(objects)
    # The first is painted last, and so stays whole, but for negative regions.
    labels = cover([*objects[::-1], *negative], size)
    labels = np.where((labels > 0) & (labels <= count), count + 1 - labels, 0)
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    if lost := [name for name, area in zip(names, areas, strict=True) if not area]:
        warnings.warn(f"{', '.join(lost)}: left out, since it has no pixel of its own.", stacklevel=2)
    return relabel(labels)


def _regions(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        tree = ElementTree.fromstring(read_bytes(path))
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path} is not XML ({error}): export the annotations from ImageScope again.") from None
    for number, region in enumerate(tree.iter("Region"), start=1):
        yield f"{path}: region {region.get('Id') or number}", region


def _corners(name: str, region: Any) -> Corners:
    if region.get("Type", POLYGON) not in (POLYGON, RECTANGLE):
        raise DataError(f"{name} is an ellipse, an arrow or a ruler: remove it, or draw an outline.")
    try:
        return [(float(vertex.get("X")), float(vertex.get("Y"))) for vertex in region.iter("Vertex")]
    except (TypeError, ValueError):
        raise DataError(f"{name} has corners that are none: expected numbers X and Y in px.") from None


def _encode(image: AnnotatedImage, labels: LabelImage) -> bytes:
    root = ElementTree.Element("Annotations")
    regions = ElementTree.SubElement(ElementTree.SubElement(root, "Annotation", Id="1", Type="4"), "Regions")
    for number, polygons in enumerate(outlines(numbered(labels)), start=1):
        region = ElementTree.SubElement(regions, "Region", Id=str(number), Type=POLYGON, NegativeROA="0")
        vertices = ElementTree.SubElement(region, "Vertices")
        for x, y in _one_ring(polygons):
            ElementTree.SubElement(vertices, "Vertex", X=str(x), Y=str(y), Z="0")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _one_ring(polygons: list[Polygon]) -> Corners:
    """Joins parts and holes of an object by lines that go there and back, so that they surround nothing."""
    first, *others = [ring.tolist() for polygon in polygons for ring in polygon]
    path = [*first, first[0]]
    for ring in others:
        path += [*ring, ring[0], first[0]]
    return path
