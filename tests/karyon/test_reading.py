"""Image files of every format: what is read is what a viewer shows, and every bad file is refused in one sentence."""

import io
import struct
import subprocess
import sys
import uuid
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from karyon.errors import DataError
from karyon.io.reading import open_image, pixel_digest, read_cached, read_image, read_labels, read_stack

RNG = np.random.default_rng(0)
GREY8, GREY16 = RNG.integers(0, 2**8, (20, 30), np.uint8), RNG.integers(0, 2**16, (20, 30), np.uint16)
RGB8, RGB16 = RNG.integers(0, 2**8, (20, 30, 3), np.uint8), RNG.integers(0, 2**16, (20, 30, 3), np.uint16)
FLOAT = RNG.random((20, 30), np.float32)
ALPHA = RNG.integers(0, 2**8, (20, 30, 1), np.uint8)
STACK = RNG.integers(0, 2**8, (4, 20, 30), np.uint8)
SMOOTH = np.add.outer(np.arange(32), np.arange(48)).astype(np.uint8) * 3
PALETTE = Image.fromarray(RGB8).quantize(16)
GREEN = np.stack([np.zeros(256), np.arange(256) * 257, np.zeros(256)]).astype(np.uint16)
PNG = b"\x89PNG\r\n\x1a\n"
FRAMES = [Image.fromarray(np.full((8, 9, 3), value, np.uint8)) for value in (10, 200, 90)]


def tiff(pixels: np.ndarray, **kwargs: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **{"photometric": "minisblack", **kwargs})
    return file.getvalue()


def rgb(pixels: np.ndarray, **kwargs: Any) -> bytes:
    return tiff(pixels, photometric="rgb", **kwargs)


def pillow(pixels: np.ndarray | Image.Image | Sequence[np.ndarray], suffix: str, **kwargs: Any) -> bytes:
    """By Pillow; several images as frames, or page by page without a word on what belongs together."""
    images = [pixels] if isinstance(pixels, np.ndarray | Image.Image) else list(pixels)
    images = [image if isinstance(image, Image.Image) else Image.fromarray(image) for image in images]
    file = io.BytesIO()
    several = {"save_all": True, "append_images": images[1:]} if len(images) > 1 else {}
    images[0].save(file, suffix, **several, **kwargs)
    return file.getvalue()


def opencv_tiff(pixels: np.ndarray) -> bytes:
    """With LZW, which is OpenCV's default and many microscopes'."""
    return cv2.imencode(".tif", pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes()


def png(pixels: np.ndarray, size: tuple[int, int] | None = None) -> bytes:
    """Any PNG of 8 or 16 bit, from the specification; Pillow writes no 16-bit RGB. ``size`` is what its header says."""
    height, width, channels = pixels.reshape(*pixels.shape[:2], -1).shape
    height, width = size or (height, width)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(pixels.dtype.newbyteorder(">")).tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, colour, 0, 0, 0)
    return PNG + b"".join(chunk(*part) for part in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")))


def interlaced(pixels: np.ndarray) -> bytes:
    """A grey PNG of 8 bit in seven passes (Adam7), as some programs for the web write them."""
    passes = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)]
    rows = b"".join(b"\0" + row.tobytes() for y, dy, x, dx in passes for row in pixels[y::dy, x::dx])
    header = struct.pack(">IIBBBBB", *reversed(pixels.shape), 8, 0, 0, 0, 1)
    return PNG + b"".join(chunk(*part) for part in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def appended(*series: np.ndarray, **kwargs: Any) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for k, pixels in enumerate(series):
            writer.write(pixels, photometric="minisblack", **(kwargs if k else {}))
    return file.getvalue()


def thumbnail_first() -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(GREY8[::3, ::3], photometric="minisblack", subfiletype=1, metadata=None)
        writer.write(GREY8, photometric="minisblack", metadata=None)
    return file.getvalue()


def patched(data: bytes, tag: str, value: int) -> bytes:
    """With another value of a tag of one short number."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        place = file.pages.first.tags[tag].valueoffset
    return data[:place] + struct.pack("<H", value) + data[place + 2 :]


def tags_last(data: bytes) -> bytes:
    """With the bits of its colours behind all else."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tag = file.pages.first.tags["BitsPerSample"]
    place = tag.offset + 8
    return data[:place] + struct.pack("<I", len(data)) + data[place + 4 :] + struct.pack("<3H", *tag.value)


def sparse() -> bytes:
    """Of nine tiles the first alone has bytes."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        tiles = iter([np.full((16, 16), 7, np.uint8), *[None] * 8])
        writer.write(tiles, shape=(48, 48), dtype=np.uint8, tile=(16, 16), photometric="minisblack")
    return file.getvalue()


def of_4_bit(values: np.ndarray, photometric: int) -> bytes:
    """Two pixels a byte."""
    height, width = values.shape
    pixels = (values[:, ::2] << 4 | values[:, 1::2]).astype(np.uint8).tobytes()
    tags = [(256, width), (257, height), (258, 4), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height)]
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in [*tags, (279, len(pixels))]]
    return b"".join([b"II*\0", struct.pack("<I", 8 + len(pixels)), pixels, b"\x09\0", *entries, bytes(4)])


SINGLE = {
    "grey.png": (png(GREY8), GREY8),
    "grey16.png": (png(GREY16), GREY16),
    "rgb.png": (png(RGB8), RGB8),
    "rgb16.png": (png(RGB16), RGB16),
    "interlaced.png": (interlaced(GREY8), GREY8),
    "rgba.png": (png(np.concatenate([RGB8, ALPHA], 2)), RGB8),
    "grey-alpha.png": (png(np.concatenate([GREY8[..., None], ALPHA], 2)), GREY8),
    "palette.png": (pillow(PALETTE, "PNG"), np.asarray(PALETTE.convert("RGB"))),
    "black-and-white.png": (pillow(GREY8 > 99, "PNG"), np.uint8(255) * (GREY8 > 99)),
    "lossless.webp": (pillow(RGB8, "WEBP", lossless=True), RGB8),
    "grey.jp2": (pillow(GREY8, "JPEG2000"), GREY8),
    "grey16.jp2": (pillow(GREY16, "JPEG2000"), GREY16),
    "grey-alpha.jp2": (pillow(np.dstack([GREY8, ALPHA]), "JPEG2000"), GREY8),
    "rgb.jp2": (pillow(RGB8, "JPEG2000"), RGB8),
    "rgb16.jp2": (imagecodecs.jpeg2k_encode(RGB16, level=0), RGB16),
    "windows.bmp": (pillow(RGB8, "BMP"), RGB8),
    "grey.bmp": (pillow(GREY8, "BMP"), GREY8),
    "grey.tif": (tiff(GREY8), GREY8),
    "grey16.tif": (tiff(GREY16, compression="zlib"), GREY16),
    "float.tif": (tiff(FLOAT), FLOAT),
    "signed.tif": (tiff(GREY16.astype(np.int16)), GREY16.astype(np.int16)),
    "big-endian.tif": (tiff(GREY16, byteorder=">", bigtiff=True), GREY16),
    "rgb.tif": (rgb(RGB8), RGB8),
    "rgb16.tif": (rgb(RGB16, compression="zlib"), RGB16),
    "rgba.tif": (rgb(np.concatenate([RGB8, ALPHA], 2), extrasamples=[2]), RGB8),
    "planar.tif": (rgb(np.moveaxis(RGB16, 2, 0), planarconfig="separate"), RGB16),
    "grey-alpha.tif": (tiff(np.dstack([GREY8, ALPHA]), planarconfig="contig", extrasamples=[2]), GREY8),
    "one-channel.tif": (tiff(GREY8[..., None]), GREY8),
    "lzw.tif": (opencv_tiff(GREY16), GREY16),
    "lzw-rgb16.tif": (opencv_tiff(RGB16), RGB16),
    "lzw-float.tif": (pillow(FLOAT, "TIFF", compression="tiff_lzw"), FLOAT),
    "zstandard.tif": (pillow(GREY8, "TIFF", compression="zstd"), GREY8),
    "jpeg2000.tif": (tiff(GREY16, compression="jpeg2000"), GREY16),
    "white-is-0.tif": (tiff(255 - GREY8, photometric="miniswhite"), GREY8),
    "white-is-0-lzw.tif": (tiff(65535 - GREY16, photometric="miniswhite", compression="lzw"), GREY16),
    "white-is-0-bits.tif": (tiff(~(GREY8 > 99), photometric="miniswhite"), GREY8 > 99),
    "white-is-0-signed.tif": (tiff(~GREY16.astype(np.int16), photometric="miniswhite"), GREY16.astype(np.int16)),
    "4-bit.tif": (of_4_bit(GREY8 >> 4, 1), (GREY8 >> 4) * np.uint8(17)),
    "4-bit-white-is-0.tif": (of_4_bit(GREY8 >> 4, 0), (15 - (GREY8 >> 4)) * np.uint8(17)),
    "palette.tif": (pillow(PALETTE, "TIFF"), np.asarray(PALETTE.convert("RGB"))),
    "palette-of-8-bit.tif": (tiff(GREY8, photometric="palette", colormap=GREEN[::-1, ::-1] // 257), None),
    "tint.tif": (tiff(GREY8, photometric="palette", colormap=GREEN), GREY8),
    "sparse.tif": (sparse(), np.pad(np.full((16, 16), 7, np.uint8), (0, 32))),
    "tags-last.tif": (tags_last(rgb(RGB16)), RGB16),
    "thumbnail.tif": (thumbnail_first(), GREY8),
    "pyramid.ome.tif": (appended(GREY8, GREY8[::2, ::2], subfiletype=1), GREY8),
    "tiff.png": (tiff(GREY16), GREY16),
    "png.tif": (png(GREY16), GREY16),
}
SINGLE["palette-of-8-bit.tif"] = (SINGLE["palette-of-8-bit.tif"][0], np.dstack([0 * GREY8, 255 - GREY8, 0 * GREY8]))


@pytest.mark.parametrize("name", SINGLE)
def test_every_format_comes_out_as_it_went_in(name: str, tmp_path: Path) -> None:
    data, expected = SINGLE[name]
    (tmp_path / name).write_bytes(data)
    for pixels in (read_image(data, name), read_image(tmp_path / name)):
        assert pixels.dtype == expected.dtype and np.array_equal(pixels, expected)


VIEWED = {
    "white-is-0": (tiff(GREY8, photometric="miniswhite"), 0),
    "palette": (pillow(PALETTE, "TIFF"), 0),
    "cmyk": (pillow(Image.fromarray(np.dstack([RGB8, ALPHA]), "CMYK"), "TIFF"), 1),
    "cmyk lzw": (pillow(Image.fromarray(np.dstack([RGB8, ALPHA]), "CMYK"), "TIFF", compression="tiff_lzw"), 1),
    "cmyk jpeg": (pillow(Image.fromarray(np.dstack([SMOOTH] * 4), "CMYK"), "JPEG"), 3),
    "ycbcr": (pillow(Image.fromarray(RGB8).convert("YCbCr"), "TIFF"), 3),
    "jpeg": (pillow(np.dstack([SMOOTH, SMOOTH.T.reshape(32, 48), SMOOTH]), "JPEG"), 3),
    "tiff jpeg": (pillow(np.dstack([SMOOTH, SMOOTH // 2, 255 - SMOOTH]), "TIFF", compression="jpeg"), 3),
    "tiff jpeg, in colours of its own": (rgb(np.dstack([SMOOTH, SMOOTH // 2, SMOOTH]), compression="jpeg"), 3),
    "webp": (pillow(np.dstack([SMOOTH] * 3), "WEBP"), 3),
}


@pytest.mark.parametrize("name", VIEWED)
def test_what_is_read_is_what_a_viewer_shows(name: str) -> None:
    data, tolerance = VIEWED[name]
    pixels, shown = read_image(data, name), np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert shown.std() > 20
    assert np.abs(np.dstack([pixels] * 3)[..., :3].astype(int) - shown).max() <= tolerance


def test_inks_of_16_bit_are_the_same_colours() -> None:
    inks = np.dstack([RGB8, ALPHA])
    assert (
        np.abs(
            read_image(tiff(inks * np.uint16(257), photometric="separated"), "16") / 257.0
            - read_image(tiff(inks, photometric="separated"), "8")
        ).max()
        <= 1
    )


def images(source: Path | bytes, channel: int | None = None) -> list[np.ndarray]:
    pages = open_image(source, "a.tif", channel)
    return [pages.read(page) for page in range(len(pages))]


HYPER = RNG.integers(0, 2**16, (2, 3, 2, 20, 30), np.uint16)
COLOURS = np.stack([RGB8, 255 - RGB8])
# Content, shape and axes of the pages, and what they hold, flat.
SEVERAL: dict[str, tuple[bytes, tuple[int, ...], str, Sequence[np.ndarray]]] = {
    "tifffile": (tiff(STACK), (4,), "Q", STACK),
    "deflate": (tiff(STACK, compression="zlib"), (4,), "Q", STACK),
    "bigtiff": (tiff(STACK, bigtiff=True), (4,), "Q", STACK),
    "imagej": (tiff(STACK, imagej=True, metadata={"axes": "ZYX"}), (4,), "Z", STACK),
    "pillow": (pillow(list(STACK), "TIFF"), (4,), "I", STACK),
    "packbits": (pillow(list(STACK), "TIFF", compression="packbits"), (4,), "I", STACK),
    "lzw": (pillow(list(STACK), "TIFF", compression="tiff_lzw"), (4,), "I", STACK),
    "zstandard": (pillow(list(STACK), "TIFF", compression="zstd"), (4,), "I", STACK),
    "white is 0": (tiff(255 - STACK, photometric="miniswhite", compression="lzw"), (4,), "Q", STACK),
    "float": (tiff(STACK / np.float32(255), byteorder=">"), (4,), "Q", STACK / np.float32(255)),
    "blocks of depth": (tiff(STACK, volumetric=True, tile=(4, 16, 16), compression="zlib"), (4,), "Z", STACK),
    "depth last": (tiff(np.moveaxis(STACK, 0, 2), metadata={"axes": "YXZ"}), (4,), "Z", STACK),
}
MIXED: dict[str, tuple[bytes, tuple[int, ...], str, Sequence[np.ndarray]]] = {
    "colours": (rgb(COLOURS), (2,), "Q", COLOURS),
    "hyperstack": (
        tiff(HYPER[:, :, 0], imagej=True, metadata={"axes": "TZYX"}),
        (2, 3),
        "TZ",
        HYPER[:, :, 0].reshape(6, 20, 30),
    ),
    "webp": (pillow(FRAMES, "WEBP", lossless=True), (3,), "T", [np.asarray(frame) for frame in FRAMES]),
    "png": (pillow(FRAMES, "PNG"), (3,), "T", [np.asarray(frame) for frame in FRAMES]),
}


@pytest.mark.parametrize("name", SEVERAL | MIXED)
def test_every_page_is_an_image(name: str, refused: Callable, tmp_path: Path) -> None:
    data, shape, axes, expected = (SEVERAL | MIXED)[name]
    (tmp_path / "a.tif").write_bytes(data)
    for source in (data, tmp_path / "a.tif"):
        pages = open_image(source, "a.tif")
        assert (pages.shape, pages.axes, len(pages)) == (shape, axes, len(expected))
        # In any order.
        for page in (len(pages) - 1, *range(len(pages))):
            image = pages.read(page)
            assert image.dtype.name == expected[page].dtype.name and np.array_equal(image, expected[page])
    with refused("a.tif holds", " x ".join(map(str, shape)), axes, "expected one", "save each as a file"):
        read_image(data, "a.tif")


@pytest.mark.parametrize(
    "kwargs", [{"imagej": True, "metadata": {"axes": "TZCYX"}}, {"ome": True, "metadata": {"axes": "TZCYX"}}]
)
def test_a_channel_is_chosen_and_time_and_depth_stay(kwargs: dict[str, Any], refused: Callable) -> None:
    data = tiff(HYPER, **kwargs)
    pages = open_image(data, "a.tif", channel=2)
    assert (pages.shape, pages.axes) == ((2, 3), "TZ")
    assert np.array_equal(np.stack([pages.read(k) for k in range(6)]), HYPER[:, :, 1].reshape(6, 20, 30))
    for wrong in (None, 0, 3):
        with refused("a.tif has 2 channels", "--channel 1 to 2"):
            open_image(data, "a.tif", channel=wrong)


CHANNELS = {
    "composite": tiff(np.moveaxis(RGB8, 2, 0), imagej=True, metadata={"axes": "CYX"}),
    "samples": tiff(RGB8, planarconfig="contig"),
    "planes": tiff(np.moveaxis(RGB8, 2, 0), planarconfig="separate"),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_three_channels_that_are_not_declared_to_be_colours_are_none(name: str, refused: Callable) -> None:
    for read in (read_image, read_stack, open_image):
        with refused("a.tif has 3 channels", "choose the one with the objects (--channel 1 to 3", "RGB image"):
            read(CHANNELS[name], "a.tif")
    assert np.array_equal(images(CHANNELS[name], 2)[0], RGB8[..., 1])


def test_of_colours_a_channel_may_be_chosen_but_not_of_grey(refused: Callable) -> None:
    for data in (rgb(RGB8), png(RGB8)):
        assert np.array_equal(images(data, 3)[0], RGB8[..., 2])
        with refused("a.tif has 3 channels"):
            open_image(data, "a.tif", channel=4)
    for data in (tiff(GREY8), png(GREY8), tiff(STACK)):
        with refused("a.tif has one channel", "leave --channel out"):
            open_image(data, "a.tif", channel=1)


def test_a_large_stack_is_read_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(STACK, compression="zlib"))
    pages = open_image(tmp_path / "a.tif")
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", lambda *args, **kwargs: pytest.fail("all at once"))
    assert np.array_equal(pages.read(2), STACK[2])


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
        (folder / f"{stem}.ome.tif").write_bytes(tiff(np.full_like(GREY8, value), description=xml, metadata=None))


def test_of_a_set_of_files_each_holds_its_own_image(tmp_path: Path) -> None:
    ome_set(tmp_path, "abc")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert file.series[0].shape == (3, 20, 30)
    # Whether the others are there or not.
    for stem in "ab":
        image = read_image(tmp_path / f"{stem}.ome.tif")
        assert image.shape == GREY8.shape and (image == "abc".index(stem) + 1).all()
        (tmp_path / "c.ome.tif").unlink(missing_ok=True)


def some_planes() -> bytes:
    data = tiff(np.stack([GREY8] * 4), metadata={"axes": "ZYX"}, ome=True)
    assert data.count(b'SizeZ="4"') == data.count(b'PlaneCount="4"') == 1
    return data.replace(b'SizeZ="4"', b'SizeZ="7"').replace(b'nt="4"', b'nt="7"')


def imagej(stack: np.ndarray, **kwargs: Any) -> bytes:
    return tiff(stack, metadata={"axes": "ZYX"}, **(kwargs or {"imagej": True}))


def slide() -> bytes:
    """As Aperio's scanners write it: the slide, a thumbnail, a smaller level, a label."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for size, tile in ((64, (32, 32)), (16, None), (32, (32, 32)), (8, None)):
            pixels = np.full((size, size, 3), size, np.uint8)
            description = f"Aperio Image Library\r\n{size}x{size}"
            writer.write(pixels, photometric="rgb", tile=tile, description=description, metadata=None)
    return file.getvalue()


def test_of_a_slide_the_full_resolution_is_read() -> None:
    assert np.array_equal(read_image(slide(), "a.svs"), np.full((64, 64, 3), 64))


# --- what is refused


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", ("is empty",)),
        (b"<html>Please log in.</html>\n" * 100, ("not an image of a known format", "unknown format")),
        (b"II*\0", ("cannot be read",)),
        (b"II*\0" + bytes(24), ("it has no pages",)),
        (patched(tiff(GREY8), "BitsPerSample", 40), ("cannot be read",)),
        (appended(GREY8, GREY8[:10]), ("2 separate images (20 x 30, 10 x 30)", "save each as a file")),
        (some_planes(), ("some of the planes that its OME-XML names", "as one file")),
        (imagej(STACK).replace(b"slices=4", b"slices=2"), ("has 4 planes", "names 2", "Fiji")),
        (imagej(STACK, ome=True).replace(b'SizeZ="4"', b'SizeZ="3"'), ("has 4 planes", "names 3")),
        (patched(opencv_tiff(GREY16), "StripByteCounts", 0), ("does not say how long its parts are",)),
        (tiff(FLOAT, photometric="miniswhite"), ("white as 0 in float32", "invert it")),
        (tiff(GREY8[0], photometric=None), ("axes X", "a height and a width")),
        (tiff(RGB8, photometric="cielab"), ("CIELAB", "save it as RGB")),
        (png(GREY8, (60_000, 60_000)), ("declares 450,000,000 bytes", "cannot hold", "copy")),
        (
            pillow(GREY8, "BMP").replace(struct.pack("<ii", 30, 20), struct.pack("<ii", 90_000, 100_000)),
            ("declares 1,125,000,000 bytes", "cannot hold"),
        ),
        (png(RNG.integers(0, 256, (512, 512), np.uint8), (40_000, 40_000)), ("40000 x 40000 px", "--max-size")),
        # Pillow would have Ghostscript run it.
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", ("not an image of a known format",)),
    ],
    ids=[
        "empty",
        "html",
        "head",
        "no page",
        "40 bit",
        "two images",
        "part of a set",
        "more slices than named",
        "more planes than named",
        "no length",
        "white floats",
        "line",
        "lab",
        "bomb",
        "large bmp",
        "huge",
        "eps",
    ],
)
def test_what_is_not_an_image_is_refused(
    data: bytes, sentence: tuple[str, ...], refused: Callable, tmp_path: Path
) -> None:
    (tmp_path / "a.tif").write_bytes(data)
    with refused("a.tif", *sentence):
        read_image(data, "a.tif")
    with refused(tmp_path / "a.tif", *sentence):
        read_image(tmp_path / "a.tif")


def test_tiles_far_larger_than_the_image_are_refused(refused: Callable) -> None:
    data = patched(tiff(GREY8, tile=(16, 16), compression="zlib"), "TileWidth", 65520)
    with refused("a.tif", "tiles of 65520 x 65520 px are far larger"):
        read_image(patched(data, "TileLength", 65520), "a.tif")


def test_a_missing_file_and_a_folder_are_refused(refused: Callable, tmp_path: Path) -> None:
    with refused(tmp_path / "a.png", "No such file", "check the path"):
        read_image(tmp_path / "a.png")
    with refused(tmp_path, "Is a directory"):
        read_image(tmp_path)


# Of a pyramid, smaller images that nobody asks for may be cut off.
CUT = {name: data for name, (data, _) in (SINGLE | VIEWED).items() if not name.startswith(("pyramid", "thumbnail"))}


@pytest.mark.parametrize("name", CUT)
def test_a_file_cut_anywhere_is_refused_or_whole(name: str) -> None:
    """A TIFF's tags may lie at its end, and be left out by a reader that takes the pixels as what they are without."""
    data = CUT[name]
    expected = read_image(data, name)
    refusals = 0
    cuts = [*range(0, len(data) - 40, 37), *range(len(data) - 40, len(data))]
    for cut in cuts:
        try:
            assert np.array_equal(read_image(data[:cut], name), expected), cut
        except DataError as error:
            refusals += 1
            assert ("copy" in str(error)) and "\n" not in str(error)
    # What is cut off may be a mark of the end, which guards nothing.
    assert refusals >= len(cuts) - 8


@pytest.mark.parametrize("name", SEVERAL)
def test_a_stack_cut_anywhere_is_refused_or_whole(name: str) -> None:
    """Most of all where only its last planes are gone, and what is left looks like a shorter stack."""
    data, _, _, expected = SEVERAL[name]
    cuts = range(0, len(data), 13)
    refusals = 0
    for cut in cuts:
        try:
            assert np.array_equal(read_stack(data[:cut], "a.tif"), expected)
        except DataError:
            refusals += 1
    # What is cut off may be a remark, the name of the program that wrote it, not a plane.
    assert refusals > 0.95 * len(cuts)


def test_no_byte_of_a_png_can_be_changed_unnoticed() -> None:
    data = png(GREY8[:6, :8])
    refusals = 0
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 0x10
        try:
            assert np.array_equal(read_image(bytes(changed), "a.png"), GREY8[:6, :8])
        except DataError:
            refusals += 1
    # Name and check sum of the end mark, eight bytes that guard nothing, are the exception.
    assert refusals >= len(data) - 8


def test_damaged_compression_is_refused(refused: Callable) -> None:
    for whole in (opencv_tiff(GREY8), opencv_tiff(RGB8), opencv_tiff(RGB16), tiff(GREY16, compression="zlib")):
        data = bytearray(whole)
        data[300:320] = bytes(byte ^ 0xFF for byte in data[300:320])
        with refused("a.tif", "cannot be read"):
            read_image(bytes(data), "a.tif")


def test_a_damaged_file_makes_no_noise(capfd: pytest.CaptureFixture[str]) -> None:
    stack = SEVERAL["tifffile"][0]
    for data in (tiff(GREY8)[:-100], stack[: len(stack) // 2], png(GREY8)[:-9]):
        with pytest.raises(DataError):
            read_image(data, "a.tif")
    assert capfd.readouterr().err == ""


# --- stacks and labels


@pytest.mark.parametrize("name", SEVERAL)
def test_a_stack_comes_out_as_it_went_in(name: str) -> None:
    data, _, _, expected = SEVERAL[name]
    stack = read_stack(data, name)
    assert stack.dtype.name == expected.dtype.name and np.array_equal(stack, expected)
    assert np.array_equal(read_stack(tiff(GREY8), name), GREY8[None])


@pytest.mark.parametrize(
    ("data", "sentence"),
    [(rgb(RGB8), "(20, 30, 3)"), (rgb(COLOURS), "(2, 20, 30, 3)"), (tiff(np.stack([STACK, STACK])), "(2, 4, 20, 30)")],
)
def test_what_is_not_a_stack_of_grey_planes_is_refused(data: bytes, sentence: str, refused: Callable) -> None:
    with refused("a.tif", sentence, "one stack of grey planes", "save it as one"):
        read_stack(data, "a.tif")


LABELS = np.zeros((20, 30), np.int32)
LABELS[:4, :4], LABELS[10:, 10:] = 70_000, 3
SEPARATE = np.zeros((20, 30), np.uint8)
SEPARATE[2:5, 2:5] = SEPARATE[10:15, 10:15] = 255


def indexed(labels: np.ndarray, suffix: str) -> bytes:
    image = Image.fromarray(labels.astype(np.uint8), "P")
    image.putpalette(RNG.integers(0, 256, 768).tolist())
    return pillow(image, suffix)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (tiff(LABELS), LABELS),
        (tiff(LABELS.astype(np.uint32), compression="zlib"), LABELS),
        (tiff(LABELS.astype(np.float32)), LABELS),
        (png((LABELS > 3).astype(np.uint8) * 255), 255 * (LABELS > 3)),
        (png(np.zeros((4, 4), np.uint8)), np.zeros((4, 4))),
        # Numbers, whatever they look like.
        (indexed(LABELS % 200, "PNG"), LABELS % 200),
        (indexed(LABELS % 200, "TIFF"), LABELS % 200),
        (tiff((LABELS % 200).astype(np.uint8), photometric="miniswhite"), LABELS % 200),
    ],
)
def test_labels_keep_their_numbers(data: bytes, expected: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data)
    read = read_labels(tmp_path / "a")
    assert read.dtype == np.int32 and np.array_equal(read, expected)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (png(SEPARATE), ("binary mask", "255", "2 separate regions", "skimage.measure.label")),
        (tiff(SEPARATE > 0), ("binary mask", "2 separate regions")),
        (png(RGB8), ("colour image", "one channel")),
        (tiff(SEPARATE.astype(np.int16) - 2), ("not object numbers", "-1 for what is not annotated")),
        (tiff(np.full((4, 4), -1, np.int16)), ("-1 throughout", "leave the image out")),
        (tiff(FLOAT), ("not object numbers", "whole numbers")),
        (tiff(FLOAT.astype(np.complex64)), ("not object numbers", "whole numbers")),
        (tiff(np.full((4, 4), np.nan, np.float32)), ("not object numbers", "whole numbers")),
        (tiff(np.full((4, 4), 2**31, np.uint32)), ("not object numbers", "whole numbers")),
        (tiff(STACK), ("holds 4 images", "expected one")),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_is_not_a_label_image_is_refused(
    data: bytes, sentence: tuple[str, ...], refused: Callable, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(data)
    with refused(tmp_path / "a", *sentence):
        read_labels(tmp_path / "a")


@pytest.mark.parametrize("name", ["a.webp", "a.labels.png", "a.labels.tif"])
def test_a_damaged_cache_says_what_to_do(name: str, refused: Callable, tmp_path: Path) -> None:
    for content in (None, b"", b"no image"):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with refused(tmp_path / name, "missing or damaged", "delete"):
            read_cached(tmp_path / name)


def test_the_digest_tells_values_shapes_and_types_apart_but_not_memory_layouts() -> None:
    changed = GREY16.copy()
    changed[7, 7] ^= 1
    distinct = [GREY16, changed, GREY16.reshape(30, 20), GREY16.astype(np.int32), GREY16.T]
    assert len({pixel_digest(pixels) for pixels in distinct}) == len(distinct)
    same = [GREY16.astype(">u2"), np.asfortranarray(GREY16), np.repeat(GREY16, 2, axis=1)[:, ::2]]
    assert {pixel_digest(pixels) for pixels in same} == {pixel_digest(GREY16)}


def test_reading_imports_nothing_heavy() -> None:
    heavy = "('torch', 'lightning', 'pandas', 'skimage', 'scipy', 'matplotlib')"
    code = f"import sys, karyon.io.reading, karyon.labels; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
