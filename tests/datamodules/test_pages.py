"""Files of any number of pages and channels: what is opened is what a person who looks at the file would see."""

import io
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from datamodules.pages import open_pages

RNG = np.random.default_rng(0)
GREY, OTHER = RNG.integers(0, 2**8, (2, 20, 30), np.uint8)
RGB = RNG.integers(0, 2**8, (20, 30, 3), np.uint8)


def write(path: Path, pixels: np.ndarray, **kwargs: object) -> Path:
    tifffile.imwrite(path, pixels, **kwargs)
    return path


def images(path: Path, channel: int | None = None) -> list[np.ndarray]:
    pages = open_pages(path, channel)
    return [pages.read(page) for page in range(len(pages))]


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "zstd"])
def test_pages_of_every_compression(tmp_path: Path, compression: str) -> None:
    smooth = np.add.outer(np.arange(32), np.arange(48)).astype(np.uint8)
    first, second = Image.fromarray(smooth), Image.fromarray(smooth[::-1])
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second], compression=compression)
    found = images(tmp_path / "a.tif")
    assert len(found) == 2
    for image, expected in zip(found, (smooth, smooth[::-1]), strict=True):
        assert np.abs(image.astype(int) - expected).max() <= (4 if compression == "jpeg" else 0)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_where_0_is_white_bright_is_bright(tmp_path: Path, compression: str | None) -> None:
    if compression:
        # Pillow turns the values around, so that the file shows what it was given.
        Image.fromarray(GREY).save(tmp_path / "a.tif", compression=compression, tiffinfo={262: 0})
    else:
        write(tmp_path / "a.tif", 255 - GREY, photometric="miniswhite")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages.first.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    assert np.array_equal(images(tmp_path / "a.tif")[0], GREY)


def test_a_palette_is_colours_unless_it_tints_intensities(tmp_path: Path) -> None:
    green = np.zeros((3, 256), np.uint16)
    green[1] = np.arange(256) * 257
    tinted = write(tmp_path / "tinted.tif", GREY, photometric="palette", colormap=green)
    assert np.array_equal(images(tinted)[0], GREY)
    few = Image.fromarray(RGB).quantize(16)
    few.save(tmp_path / "few.tif")
    assert np.array_equal(images(tmp_path / "few.tif")[0], np.asarray(few.convert("RGB")))


def test_samples_that_are_no_colours_are_channels_and_transparency_is_none(tmp_path: Path, refused: Callable) -> None:
    kwargs = {"photometric": "minisblack", "planarconfig": "contig"}
    for count in (3, 4):
        path = write(tmp_path / f"{count}.tif", np.dstack([GREY, OTHER, RGB])[..., :count], **kwargs)
        with refused(path, f"has {count} channels", f"--channel 1 to {count}"):
            open_pages(path)
        assert np.array_equal(images(path, 2)[0], OTHER)
    path = write(tmp_path / "alpha.tif", np.dstack([GREY, OTHER]), extrasamples=[2], **kwargs)
    assert np.array_equal(images(path)[0], GREY)
    path = write(tmp_path / "rgba.tif", np.dstack([RGB, GREY]), photometric="rgb", extrasamples=[2])
    assert np.array_equal(images(path)[0], RGB)


def test_a_pyramid_is_its_largest_image(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        writer.write(GREY, subifds=1)
        writer.write(GREY[::2, ::2], subfiletype=1)
    assert np.array_equal(images(tmp_path / "a.ome.tif")[0], GREY)


def ome_set(folder: Path, stems: str) -> None:
    """Files of one plane each, whose metadata names the planes of all, as microscopes' programs write them."""
    ids = {stem: uuid.uuid4().urn for stem in stems}
    planes = "".join(
        f'<TiffData FirstZ="{z}" PlaneCount="1"><UUID FileName="{stem}.ome.tif">{ids[stem]}</UUID></TiffData>'
        for z, stem in enumerate(stems)
    )
    for value, stem in enumerate(stems, start=1):
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{ids[stem]}"><Image ID="Image:0">'
            f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="30" SizeY="20" SizeZ="{len(stems)}" '
            f'SizeC="1" SizeT="1"><Channel ID="Channel:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
        )
        write(folder / f"{stem}.ome.tif", np.full_like(GREY, value), description=xml, metadata=None)


def test_of_a_set_of_files_each_holds_its_own_image(tmp_path: Path) -> None:
    ome_set(tmp_path, "abc")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert file.series[0].shape == (3, 20, 30)
    # Whether the others are there or not.
    for stem in "ab":
        [image] = images(tmp_path / f"{stem}.ome.tif")
        assert image.shape == GREY.shape and (image == "abc".index(stem) + 1).all()
        (tmp_path / "c.ome.tif").unlink(missing_ok=True)


def test_several_of_the_planes_of_an_image_are_refused(tmp_path: Path, refused: Callable) -> None:
    write(tmp_path / "a.ome.tif", np.stack([GREY] * 4), metadata={"axes": "ZYX"}, ome=True)
    data = (tmp_path / "a.ome.tif").read_bytes()
    assert data.count(b'SizeZ="4"') == data.count(b'PlaneCount="4"') == 1
    (tmp_path / "a.ome.tif").write_bytes(data.replace(b'SizeZ="4"', b'SizeZ="7"').replace(b'nt="4"', b'nt="7"'))
    with refused(tmp_path / "a.ome.tif", "some of the planes that its OME-XML names", "as one file"):
        open_pages(tmp_path / "a.ome.tif")


def test_what_has_no_height_is_refused(tmp_path: Path, refused: Callable) -> None:
    with refused(write(tmp_path / "a.tif", GREY[0]), "axes X", "a height and a width"):
        open_pages(tmp_path / "a.tif")


def test_a_suffix_may_be_wrong(tmp_path: Path, refused: Callable) -> None:
    data = io.BytesIO()
    Image.fromarray(GREY).save(data, "PNG")
    (tmp_path / "png.tif").write_bytes(data.getvalue())
    assert np.array_equal(images(tmp_path / "png.tif")[0], GREY)
    (tmp_path / "text.tif").write_text("no image")
    with refused(tmp_path / "text.tif", "not an image of a known format"):
        open_pages(tmp_path / "text.tif")
