"""How large the pixels of a TIFF are, as OME-XML, ImageJ or the resolution tags say."""

import math
from contextlib import suppress
from typing import Any
from xml.etree import ElementTree

import tifffile

from karyon.planes import PixelSize

# um in a unit, by the names that OME and ImageJ's users give it.
UNITS: dict[str, float] = {
    **dict.fromkeys(("µm", "μm", "um", "\\u00b5m", "micron", "microns", "micrometer", "micrometers"), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometers"), 1e-3),
    **dict.fromkeys(("mm", "millimeter", "millimeters"), 1e3),
    **{"pm": 1e-6, "å": 1e-4, "cm": 1e4, "m": 1e6, "in": 25400.0, "inch": 25400.0},
}
# ResolutionUnit: 2 is an inch, 3 a centimetre.
TAG_UNITS = {2: "inch", 3: "cm"}
# Programs write 72 to 2400 dots an inch where nothing is known: those are for printers, and larger than 10 um.
LARGEST_DOT = 10.0

Size = tuple[float, float, float]
"""Width and height of a pixel and the step from plane to plane, um; the step is no positive number where not known."""


def pixel_size(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> PixelSize | None:
    """The size of pixels and the step of planes, to six digits; None where a file does not say, or says nonsense."""
    for look in (_of_ome, _of_aperio, _of_imagej, _of_tags):
        with suppress(ValueError, TypeError, ArithmeticError, LookupError, ElementTree.ParseError):
            if size := PixelSize.measured(*look(file, series)):
                return size
    return None


def _of_ome(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Size:
    found = ElementTree.fromstring(file.ome_metadata or "").iter()
    pixels = [element for element in found if element.tag.rpartition("}")[2] == "Pixels"]
    says = {"PhysicalSizeZ": "0"} | pixels[file.series.index(series)].attrib
    # In pixels, or in what else depth is counted in, it is not known.
    units = [UNITS.get(says.get(f"PhysicalSize{a}Unit", "µm").lower(), math.nan) for a in "XYZ"]
    x, y, z = (float(says[f"PhysicalSize{a}"]) * unit for a, unit in zip("XYZ", units, strict=True))
    return x, y, z


def _of_aperio(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Size:
    says = dict(part.split(" = ") for part in series.keyframe.description.split("|")[1:])
    side = float(says["MPP"])
    return side, side, 0.0


def _of_imagej(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Size:
    says = file.imagej_metadata or {}
    units = [str(says["unit"]), str(says.get("yunit", says["unit"]))]
    x, y = _per_unit(series.keyframe, [unit.strip().lower() for unit in units])
    depth = UNITS.get(str(says.get("zunit", says["unit"])).strip().lower(), math.nan)
    return x, y, abs(float(says.get("spacing", 0))) * depth


def _of_tags(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Size:
    unit = TAG_UNITS[int(series.keyframe.tags["ResolutionUnit"].value)]
    return *_per_unit(series.keyframe, [unit, unit]), 0.0


def _per_unit(page: tifffile.TiffPage, units: list[str]) -> tuple[float, float]:
    """Turns pixels a unit into um."""
    x, y = (UNITS[unit] / _ratio(page.tags[f"{a}Resolution"].value) for a, unit in zip("XY", units, strict=True))
    if {"in", "inch", "cm"} & set(units) and max(x, y) > LARGEST_DOT:
        raise ValueError("dots of a printer")
    return x, y


def _ratio(value: Any) -> float:
    above, below = value
    return float(above / below)
