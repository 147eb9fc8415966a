"""Large images are read by region and by resolution, and what is read is what the whole file shows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from large_files import halved, write_aperio, write_pyramid

from karyon.errors import DataError
from karyon.io import tiff
from karyon.io.lazy_image import LazyImage
from karyon.io.reading import open_image
from karyon.planes import PixelSize

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 2**16, (152, 200), np.uint16)
RGB = RNG.integers(0, 2**8, (152, 200, 3), np.uint8)
FLOAT = RNG.random((152, 200), np.float32)
TILED: dict[str, Any] = {"tile": (64, 64)}
LAYOUTS: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "tiles": (GREY, TILED | {"photometric": "minisblack", "compression": "zlib"}),
    "uncompressed tiles": (GREY, TILED | {"photometric": "minisblack"}),
    "big-endian tiles": (
        GREY,
        TILED | {"photometric": "minisblack", "byteorder": ">", "compression": "lzw"},
    ),
    "strips": (GREY, {"rowsperstrip": 16, "compression": "lzw", "photometric": "minisblack"}),
    "one strip": (GREY, {"photometric": "minisblack"}),
    "one strip, big-endian": (GREY, {"photometric": "minisblack", "byteorder": ">"}),
    "planes of colours": (np.moveaxis(RGB, 2, 0), {"photometric": "rgb", "planarconfig": "separate"}),
    "tiles of planes": (np.moveaxis(RGB, 2, 0), TILED | {"photometric": "rgb", "planarconfig": "separate"}),
    "jpeg": (
        RGB // 8 + np.arange(152, dtype=np.uint8)[:, None, None],
        TILED | {"photometric": "rgb", "compression": "jpeg"},
    ),
    "white is 0": (GREY, TILED | {"photometric": "miniswhite"}),
    "float": (FLOAT, TILED | {"photometric": "minisblack", "compression": "zstd"}),
    "transparent": (np.dstack([RGB, RGB[..., :1]]), TILED | {"photometric": "rgb", "extrasamples": [2]}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_region_is_that_of_the_whole(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, options = LAYOUTS[layout]
    options = dict(options)
    tifffile.imwrite(tmp_path / "a.tif", pixels, byteorder=options.pop("byteorder", "<"), **options)
    whole = open_image(tmp_path / "a.tif").open(0)
    assert isinstance(whole, np.ndarray)
    monkeypatch.setattr(tiff, "LARGE", 0)
    image = open_image(tmp_path / "a.tif").open(0)
    assert isinstance(image, LazyImage) and (image.shape, image.dtype) == (whole.shape, whole.dtype)
    for region in (np.s_[:, :], np.s_[60:70, 120:140], np.s_[151:152, 190:200], np.s_[64:128, 64:128], np.s_[::7, ::3]):
        assert np.array_equal(image[region], whole[region])
    monkeypatch.setattr("karyon.io.lazy_image.BAND", 1000)
    assert np.array_equal(image[3::7, ::3], whole[3::7, ::3]) and np.array_equal(np.asarray(image), whole)


def test_no_more_is_decoded_than_a_region_touches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pyramid(tmp_path / "a.tif", GREY, metadata=None)
    seen: list[int] = []
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        decode = file.pages.first.decode
    monkeypatch.setattr(
        tifffile.TiffPage, "decode", property(lambda _: lambda data, index: seen.append(index) or decode(data, index))
    )
    image = open_image(tmp_path / "a.tif").open(0)
    image[60:70, 10:20], image[60:70, 10:20]
    assert seen == [0, 4]


def test_resolutions_in_sub_ifds_are_levels(tmp_path: Path) -> None:
    stack, name = np.stack([GREY, GREY[::-1], GREY // 2]), "a.ome.tif"
    with tifffile.TiffWriter(tmp_path / name) as writer:
        options: dict[str, Any] = {"tile": (64, 64), "photometric": "minisblack"}
        writer.write(stack, subifds=1, metadata={"axes": "ZYX"}, **options)
        writer.write(stack[:, ::2, ::2], subfiletype=1, metadata={"axes": "ZYX"}, **options)
    pages = open_image(tmp_path / name)
    assert pages.shape == (3,)
    image = pages.open(1)
    assert isinstance(image, LazyImage) and image.shape == (152, 200)
    assert np.array_equal(image.at(1)[10:20, 5:70], stack[1, ::2, ::2][10:20, 5:70])
    assert np.array_equal(pages.read(1), stack[1])


def test_of_a_slide_the_image_is_taken_and_the_pictures_beside_it_are_named(tmp_path: Path) -> None:
    write_aperio(tmp_path / "a.svs", RGB, levels=3)
    pages = open_image(tmp_path / "a.svs")
    image = pages.open(0)
    assert isinstance(image, LazyImage) and len(image.coarser) == 2
    assert np.array_equal(image[:, :], RGB) and np.array_equal(image.at(2)[:, :], halved(halved(RGB)))
    assert pages.passed_over == ("thumbnail (30 x 20 px)", "label (33 x 31 px)", "macro (55 x 35 px)")
    assert pages.pixel_size == PixelSize(0.499, 0.499)


@pytest.mark.parametrize(("scale", "level"), [(3, 0), (1, 0), (0.51, 0), (0.5, 1), (0.3, 1), (0.25, 2), (0.01, 2)])
def test_the_level_is_never_coarser_than_needed(scale: float, level: int, tmp_path: Path) -> None:
    write_aperio(tmp_path / "a.svs", RGB, levels=3)
    assert open_image(tmp_path / "a.svs").open(0).level_for(scale) == level


def test_what_is_not_a_number_is_refused_or_background(tmp_path: Path) -> None:
    pixels = np.where(FLOAT < 0.1, np.nan, FLOAT)
    write_pyramid(tmp_path / "a.tif", pixels, metadata=None)
    image = open_image(tmp_path / "a.tif").open(0)
    with pytest.raises(DataError, match=r"a\.tif: the image holds values that are not finite"):
        image[:, :]
    # Of half of the image at its lower resolution, by which it is looked at.
    assert np.array_equal(image.with_nan_filled()[:, :], np.where(FLOAT < 0.1, np.float32(np.nanmedian(pixels)), FLOAT))


def test_a_slide_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    write_aperio(tmp_path / "a.svs", RGB)
    data = (tmp_path / "a.svs").read_bytes()
    (tmp_path / "b.svs").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"b\.svs"):
        open_image(tmp_path / "b.svs").open(0)
