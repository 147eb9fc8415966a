"""The size of a pixel is read where a file says it, kept in label images, and never guessed."""

import io

import numpy as np
import pytest
import tifffile

from karyon.io.encoding import label_tiff
from karyon.io.reading import open_image
from karyon.planes import PixelSize

IMAGE = np.zeros((2, 32, 32), np.uint16)


def ome(**metadata):
    return {"ome": True, "metadata": {"axes": "ZYX"} | metadata}


def imagej(**metadata):
    return {"imagej": True, "metadata": {"axes": "ZYX"} | metadata}


def tags(per_unit, unit):
    return {"resolution": (per_unit, per_unit), "resolutionunit": unit}


@pytest.mark.parametrize(
    ("written", "um"),
    [
        (ome(PhysicalSizeX=0.325, PhysicalSizeY=0.5), (0.325, 0.5)),
        (ome(PhysicalSizeX=0.5, PhysicalSizeY=0.5, PhysicalSizeZ=800.0, PhysicalSizeZUnit="nm"), (0.5, 0.5, 0.8)),
        (ome(PhysicalSizeX=0.5, PhysicalSizeY=0.5, PhysicalSizeZ=1.0, PhysicalSizeZUnit="pixel"), (0.5, 0.5)),
        (ome(PhysicalSizeX=325.0, PhysicalSizeXUnit="nm", PhysicalSizeY=0.5, PhysicalSizeYUnit="µm"), (0.325, 0.5)),
        # No unit of length; no number; nothing at all.
        (ome(PhysicalSizeX=1.0, PhysicalSizeXUnit="pixel", PhysicalSizeY=1.0, PhysicalSizeYUnit="pixel"), None),
        (ome(PhysicalSizeX=0.0, PhysicalSizeY=0.0), None),
        (ome(PhysicalSizeX=float("nan"), PhysicalSizeY=float("nan")), None),
        (ome(), None),
        (ome() | tags(20000, "CENTIMETER"), (0.5, 0.5)),
        (imagej(unit="um") | tags(4, None), (0.25, 0.25)),
        (imagej(unit="nm", spacing=300.0) | tags(0.01, None), (0.1, 0.1, 0.3)),
        (imagej(unit="micron") | tags(4, None), (0.25, 0.25)),
        (imagej(unit="\\u00B5m") | tags(4, None), (0.25, 0.25)),
        (imagej(unit="nm") | tags(0.01, None), (0.1, 0.1)),
        (imagej(unit="mm", yunit="um") | {"resolution": (1000, 2)}, (1, 0.5)),
        (imagej(unit="pixel") | tags(1, None), None),
        (imagej(unit="inch") | tags(72, None), None),
        (imagej() | tags(4, None), None),
        (tags(20000, "CENTIMETER"), (0.5, 0.5)),
        (tags(50800, "INCH"), (0.5, 0.5)),
        # Of printers and screens.
        *[(tags(dots, "INCH"), None) for dots in (72, 96, 300, 2400)],
        (tags(118, "CENTIMETER"), None),
        (tags(0, "CENTIMETER"), None),
        (tags(20000, "NONE"), None),
        ({}, None),
    ],
)
def test_sizes_are_read_where_files_say_them(tmp_path, written, um):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE, **({"photometric": "minisblack"} | written))
    assert open_image(path).pixel_size == (um and PixelSize(*um))


@pytest.mark.parametrize("um", [(0.325, 0.325), (0.1, 12.5), (1 / 3, 0.65), (150.0, 150.0)])
def test_label_images_keep_it(um):
    file = tifffile.TiffFile(io.BytesIO(label_tiff(IMAGE[0], PixelSize(*um))))
    x, y = (np.divide(*file.pages[0].tags[f"{axis}Resolution"].value) for axis in "XY")
    assert file.pages[0].tags["ResolutionUnit"].value == 3
    assert (1e4 / x, 1e4 / y) == pytest.approx(um, 1e-6)
