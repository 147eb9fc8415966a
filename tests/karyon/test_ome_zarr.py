"""OME-Zarr of both releases, plates and bioformats2raw are read; what is written is what ome-zarr reads."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from karyon.commands.inputs import find_images
from karyon.errors import DataError
from karyon.io.lazy_image import LazyImage
from karyon.io.ome_zarr import images_in, write_label_zarr
from karyon.io.reading import open_image
from karyon.planes import PixelSize

RNG = np.random.default_rng(0)
HYPER = RNG.integers(0, 2**16, (2, 3, 2, 50, 70), np.uint16)


def group(folder: Path, attributes: dict[str, Any], version: str = "0.5") -> None:
    if version == "0.5":
        zarr.open_group(folder, mode="w", zarr_format=3, attributes={"ome": {"version": version, **attributes}})
    else:
        zarr.open_group(folder, mode="w", zarr_format=2, attributes=attributes)


def image(folder: Path, pixels: np.ndarray, axes: str, version: str = "0.5", **attributes: Any) -> None:
    """With a second resolution, of every second pixel, and pixels of half a micrometre."""
    ones = [1.0] * (len(axes) - 2)
    places = [
        {"path": str(k), "coordinateTransformations": [{"type": "scale", "scale": [*ones, 0.5 * 2**k, 0.25 * 2**k]}]}
        for k in range(2)
    ]
    space = [{"name": axis, **({"type": "space", "unit": "micrometer"} if axis in "yx" else {})} for axis in axes]
    scales = [{"version": version, "axes": space, "datasets": places}]
    group(folder, {"multiscales": scales, **attributes}, version)
    for k in range(2):
        part = pixels[..., :: 2**k, :: 2**k]
        array = zarr.create_array(
            folder / str(k), shape=part.shape, dtype=part.dtype, chunks=(*[1] * (len(axes) - 2), 32, 32),
            zarr_format=3 if version == "0.5" else 2,
        )  # fmt: skip
        array[...] = part


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_images_come_out_as_they_went_in(version: str, tmp_path: Path) -> None:
    image(tmp_path / "a.zarr", HYPER, "tczyx", version)
    with pytest.raises(DataError, match=r"a\.zarr has 3 channels: choose"):
        open_image(tmp_path / "a.zarr")
    pages = open_image(tmp_path / "a.zarr", channel=2)
    assert (pages.shape, pages.axes, pages.channel, pages.pixel_size) == ((2, 2), "TZ", (1, 3), PixelSize(0.25, 0.5))
    assert all(np.array_equal(pages.read(k), HYPER[k // 2, 1, k % 2]) for k in range(4))
    opened = pages.open(3)
    assert isinstance(opened, LazyImage) and np.array_equal(opened[30:40, 20:70], HYPER[1, 1, 1, 30:40, 20:70])
    assert np.array_equal(opened.at(1)[:, :], HYPER[1, 1, 1, ::2, ::2])


def test_three_channels_in_red_green_and_blue_are_colours(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 2**8, (1, 3, 50, 70), np.uint8)
    shown = {"channels": [{"color": colour} for colour in ("FF0000", "00FF00", "0000FF")]}
    image(tmp_path / "a.zarr", pixels, "tcyx", "0.4", omero=shown)
    pages = open_image(tmp_path / "a.zarr")
    assert pages.shape == () and np.array_equal(pages.open(0)[:, :], np.moveaxis(pixels[0], 0, -1))


def test_wells_of_a_plate_and_series_of_bioformats2raw_are_images(tmp_path: Path) -> None:
    wells = ["A/1", "A/2", "B/1", "B/2"]
    group(tmp_path / "in/plate.zarr", {"plate": {"wells": [{"path": well} for well in wells]}}, "0.4")
    for k, well in enumerate(wells):
        group(tmp_path / "in/plate.zarr" / well, {"well": {"images": [{"path": "0"}]}}, "0.4")
        image(tmp_path / "in/plate.zarr" / well / "0", HYPER[0, k % 3, 0], "yx", "0.4")
    group(tmp_path / "in/raw.zarr", {"bioformats2raw.layout": 3})
    for name in ("0", "1"):
        image(tmp_path / "in/raw.zarr" / name, HYPER[0, 0, 0], "yx")
    _, found, others = find_images([str(tmp_path / "in")], tmp_path / "out")
    assert list(found) == [*(f"plate.zarr/{well}/0" for well in wells), "raw.zarr/0", "raw.zarr/1"] and not others
    assert np.array_equal(open_image(found["plate.zarr/B/1/0"]).read(0), HYPER[0, 2, 0])
    assert next(iter(find_images([str(tmp_path / "in/plate.zarr")], tmp_path / "out")[1])) == "plate.zarr/A/1/0"
    assert images_in(tmp_path) is None
    for wrong in ({}, {"wells": [{}]}, {"wells": [{"path": "../in/plate.zarr/A/1"}]}):
        group(tmp_path / "wrong.zarr", {"plate": wrong})
        assert images_in(tmp_path / "wrong.zarr") == [tmp_path / "wrong.zarr"]


def test_zarr_without_an_image_and_without_the_package_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group(tmp_path / "a.zarr", {})
    with pytest.raises(DataError, match=r"a\.zarr is Zarr without the metadata of an image"):
        open_image(tmp_path / "a.zarr")
    image(tmp_path / "b.zarr", HYPER[0, 0, 0], "yx")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(DataError, match=r'b\.zarr: OME-Zarr needs the package zarr: pip install "karyon\[zarr\]"'):
        open_image(tmp_path / "b.zarr")


def test_labels_are_what_ome_zarr_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("karyon.io.ome_zarr.CHUNK", 32)
    labels = np.arange(100 * 70, dtype=np.int32).reshape(100, 70) * 30
    write_label_zarr(tmp_path / "a.zarr", labels, PixelSize(0.25, 0.5))
    location = parse_url(tmp_path / "a.zarr")
    assert location is not None
    (node,) = Reader(location)()
    assert [level.shape for level in node.data] == [(100, 70), (50, 35), (25, 18)]
    assert all(np.array_equal(level.compute(), labels[:: 2**k, :: 2**k]) for k, level in enumerate(node.data))
    assert [change[0]["scale"] for change in node.metadata["coordinateTransformations"]][1] == [1.0, 0.5]
    assert open_image(tmp_path / "a.zarr").pixel_size == PixelSize(0.25, 0.5)
    assert json.loads((tmp_path / "a.zarr/zarr.json").read_bytes())["attributes"]["ome"]["version"] == "0.5"
    command = [str(Path(sys.executable).with_name("ome_zarr")), "info", str(tmp_path / "a.zarr")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Multiscales" in done.stdout + done.stderr and "(100, 70)" in done.stdout + done.stderr
