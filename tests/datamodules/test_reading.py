"""Single files: every format comes out as it went in, and every bad file is refused in one sentence."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from datamodules.image_type import image_type, is_grey
from datamodules.reading import decode_image, decode_stack, pixel_digest, read_cached, read_image, read_labels
from datamodules.sample import DataError

RNG = np.random.default_rng(0)
GREY8, GREY16 = RNG.integers(0, 2**8, (20, 30), np.uint8), RNG.integers(0, 2**16, (20, 30), np.uint16)
RGB8, RGB16 = RNG.integers(0, 2**8, (20, 30, 3), np.uint8), RNG.integers(0, 2**16, (20, 30, 3), np.uint16)
FLOAT = RNG.random((20, 30), np.float32)
PALETTE = Image.fromarray(RGB8).quantize(16)
ALPHA = RNG.integers(0, 2**8, (20, 30, 1), np.uint8)


def pillow(pixels: np.ndarray | Image.Image, kind: str, **kwargs: Any) -> bytes:
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, kind, **kwargs)
    return file.getvalue()


def tiff(pixels: np.ndarray, **kwargs: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **kwargs)
    return file.getvalue()


def opencv_tiff(pixels: np.ndarray) -> bytes:
    """With LZW, which is OpenCV's default and many microscopes'."""
    data = cv2.imencode(".tif", pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes()
    assert tifffile.TiffFile(io.BytesIO(data)).pages.first.compression == tifffile.COMPRESSION.LZW
    return data


def png(pixels: np.ndarray) -> bytes:
    """Any PNG of 8 or 16 bit, from the specification; Pillow writes no 16-bit RGB."""
    height, width, channels = pixels.reshape(*pixels.shape[:2], -1).shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(pixels.dtype.newbyteorder(">")).tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("grey.png", png(GREY8), GREY8),
        ("grey16.png", png(GREY16), GREY16),
        ("rgb.png", png(RGB8), RGB8),
        ("rgb16.png", png(RGB16), RGB16),
        ("rgba.png", png(np.concatenate([RGB8, ALPHA], 2)), RGB8),
        ("grey-alpha.png", png(np.concatenate([GREY8[..., None], ALPHA], 2)), np.repeat(GREY8[..., None], 3, 2)),
        ("palette.PNG", pillow(PALETTE, "PNG"), np.asarray(PALETTE.convert("RGB"))),
        ("lossless.webp", pillow(RGB8, "WEBP", lossless=True), RGB8),
        ("windows.bmp", pillow(RGB8, "BMP"), RGB8),
        ("grey.tif", tiff(GREY8), GREY8),
        ("grey16.TIFF", tiff(GREY16), GREY16),
        ("float.tif", tiff(FLOAT), FLOAT),
        ("signed.tif", tiff(GREY16.astype(np.int16)), GREY16.astype(np.int16)),
        ("big-endian.tif", tiff(GREY16, byteorder=">"), GREY16),
        ("rgb.tif", tiff(RGB8, photometric="rgb"), RGB8),
        ("rgb16.tif", tiff(RGB16, photometric="rgb", compression="zlib"), RGB16),
        ("rgba.tif", tiff(np.concatenate([RGB8, ALPHA], 2), photometric="rgb", extrasamples=[2]), RGB8),
        ("planar.tif", tiff(np.moveaxis(RGB16, 2, 0), photometric="rgb", planarconfig="separate"), RGB16),
        ("imagej.tif", tiff(np.moveaxis(RGB8, 2, 0), imagej=True, metadata={"axes": "CYX"}), RGB8),
        ("lzw.tif", opencv_tiff(GREY16), GREY16),
        ("lzw-rgb.tif", opencv_tiff(RGB8), RGB8),
        ("lzw-rgb16.tif", opencv_tiff(RGB16), RGB16),
        ("lzw-float.tif", pillow(FLOAT, "TIFF", compression="tiff_lzw"), FLOAT),
        ("zstandard.tif", pillow(GREY8, "TIFF", compression="zstd"), GREY8),
        ("tiff.png", tiff(GREY16), GREY16),
        ("png.tif", png(GREY16), GREY16),
        ("one-channel.tif", tiff(GREY8[..., None], photometric="minisblack"), GREY8),
    ],
)
def test_every_format_comes_out_as_it_went_in(name: str, data: bytes, expected: np.ndarray) -> None:
    pixels = decode_image(data, name)
    assert pixels.dtype == expected.dtype and np.array_equal(pixels, expected)


def test_jpeg_comes_out_in_the_right_colours() -> None:
    pixels = np.full((16, 16, 3), [200, 100, 30], np.uint8)
    for data in (pillow(pixels, "JPEG"), pillow(pixels, "TIFF", compression="jpeg")):
        assert np.abs(decode_image(data, "a.jpg").astype(int) - pixels).max() < 5


DAMAGEABLE = {
    "a.png": png(GREY8),
    "a.tif": tiff(GREY8, compression="zlib"),
    "b.tif": tiff(RGB8, photometric="rgb"),
    "lzw.tif": opencv_tiff(GREY8),
    "a.webp": pillow(GREY8, "WEBP", lossless=True),
    "a.bmp": pillow(GREY8, "BMP"),
    "a.jpg": pillow(GREY8, "JPEG"),
}


@pytest.mark.parametrize("name", DAMAGEABLE)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.5, 0.9, 0.98])
def test_a_file_cut_anywhere_is_refused(name: str, share: float, refused: Callable) -> None:
    data = DAMAGEABLE[name]
    with refused(name, "empty" if share == 0 else "cut short", "copy"):
        decode_image(data[: int(len(data) * share)], name)


def test_no_byte_of_a_png_can_be_changed_or_lost_unnoticed() -> None:
    data = png(GREY8[:6, :8])
    refusals = 0
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 0x10
        for damaged in (bytes(changed), data[:position]):
            try:
                assert np.array_equal(decode_image(damaged, "a.png"), GREY8[:6, :8])
            except DataError:
                refusals += 1
    # The check sum of the end mark, four bytes that guard nothing, is the exception.
    assert refusals >= 2 * len(data) - 8


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_what_is_no_image_is_refused(name: str, refused: Callable, tmp_path: Path) -> None:
    (tmp_path / name).write_text("<html>Please log in.</html>\n" * 100)
    with refused(tmp_path / name, "unknown kind"):
        read_image(tmp_path / name)


def test_damaged_lzw_is_refused(refused: Callable) -> None:
    for pixels in (GREY8, RGB8, RGB16):
        data = bytearray(opencv_tiff(pixels))
        data[200:220] = bytes(byte ^ 0xFF for byte in data[200:220])
        with refused("a.tif", "cannot be read"):
            decode_image(bytes(data), "a.tif")


def test_a_png_beyond_the_decoder_is_refused_before_it_is_decoded(refused: Callable) -> None:
    header = struct.pack(">IIBBBBB", 100_000, 90_000, 8, 0, 0, 0, 0)
    data = bytearray(png(GREY8))
    data[16:29], data[29:33] = header, struct.pack(">I", zlib.crc32(b"IHDR" + header))
    with refused("a.png has 90000 x 100000 px", "save it as TIFF"):
        decode_image(bytes(data), "a.png")


def test_a_damaged_file_makes_no_noise(capfd: pytest.CaptureFixture[str]) -> None:
    stack = STACKS["tifffile"]
    for name, data in {
        "a.tif": tiff(GREY8)[:-100],
        "b.tif": stack[: len(stack) // 2],
        "c.png": png(GREY8)[:-9],
    }.items():
        with pytest.raises(DataError):
            decode_image(data, name)
    assert capfd.readouterr().err == ""


def test_a_missing_file_and_a_folder_are_refused(refused: Callable, tmp_path: Path) -> None:
    with refused(tmp_path / "a.png", "No such file", "check the path"):
        read_image(tmp_path / "a.png")
    with refused(tmp_path, "Is a directory"):
        read_image(tmp_path)


@pytest.mark.parametrize("planes", [2, 3, 4, 5])
def test_a_stack_is_not_taken_for_a_colour_image(planes: int, refused: Callable) -> None:
    stack = tiff(RNG.integers(0, 255, (planes, 20, 30), np.uint8), photometric="minisblack")
    with refused("stack.tif", f"({planes}, 20, 30)", "each plane"):
        decode_image(stack, "stack.tif")


def test_a_compressed_stack_is_not_cut_down_to_its_first_plane(refused: Callable) -> None:
    planes = [Image.fromarray(GREY8)] * 3
    file = io.BytesIO()
    planes[0].save(file, "TIFF", save_all=True, append_images=planes[1:], compression="tiff_lzw")
    with refused("stack.tif", "(3, 20, 30)", "save each plane as a file"):
        decode_image(file.getvalue(), "stack.tif")


# --- stacks

STACK = RNG.integers(0, 2**8, (4, 20, 30), np.uint8)


def pages(planes: np.ndarray, **kwargs: Any) -> bytes:
    """Page by page, as Pillow and libtiff write, without a word on what belongs together."""
    images = [Image.fromarray(plane) for plane in planes]
    return pillow(images[0], "TIFF", save_all=True, append_images=images[1:], **kwargs)


def appended(*series: np.ndarray) -> bytes:
    file = io.BytesIO()
    for pixels in series:
        file.seek(0)
        tifffile.imwrite(file, pixels, photometric="minisblack", append=bool(file.getvalue()))
    return file.getvalue()


STACKS = {
    "tifffile": tiff(STACK, photometric="minisblack"),
    "deflate": tiff(STACK, photometric="minisblack", compression="zlib"),
    "bigtiff": tiff(STACK, photometric="minisblack", bigtiff=True),
    "imagej": tiff(STACK, imagej=True, metadata={"axes": "ZYX"}),
    "pillow": pages(STACK),
    "packbits": pages(STACK, compression="packbits"),
    "lzw": pages(STACK, compression="tiff_lzw"),
}


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_comes_out_as_it_went_in(name: str) -> None:
    stack = decode_stack(STACKS[name], name)
    assert stack.dtype == np.uint8 and np.array_equal(stack, STACK)


def test_a_stack_of_16_bit_of_floats_and_of_one_plane() -> None:
    for pixels in (STACK.astype(np.uint16) * 257, STACK.astype(np.float32) / 255, STACK[:1]):
        stack = decode_stack(tiff(pixels, photometric="minisblack", byteorder=">"), "a.tif")
        assert np.array_equal(stack, pixels) and stack.dtype.name == pixels.dtype.name
    assert np.array_equal(decode_stack(tiff(STACK[0]), "a.tif"), STACK[:1])


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_cut_anywhere_is_refused_or_whole(name: str, refused: Callable) -> None:
    """Most of all where only its last planes are gone, and what is left looks like a shorter stack."""
    data = STACKS[name]
    refusals = 0
    cuts = range(0, len(data), 13)
    for cut in cuts:
        try:
            # What is cut off may be a remark, the name of the program that wrote it, not a plane.
            assert np.array_equal(decode_stack(data[:cut], "a.tif"), STACK)
        except DataError:
            refusals += 1
            with refused("a.tif", "empty" if cut == 0 else "cannot be read", "copy or download it again"):
                decode_stack(data[:cut], "a.tif")
    assert refusals > 0.95 * len(cuts)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (tiff(RGB8, photometric="rgb"), ("(20, 30, 3)", "YXS")),
        (tiff(np.moveaxis(RGB8, 2, 0), photometric="rgb", planarconfig="separate"), ("(3, 20, 30)", "SYX")),
        (tiff(np.stack([RGB8] * 4), photometric="rgb"), ("(4, 20, 30, 3)",)),
        (tiff(np.stack([STACK, STACK]), photometric="minisblack"), ("(2, 4, 20, 30)",)),
        (appended(STACK, STACK[:, :10]), ("2 series", "(4, 20, 30)")),
        (appended(STACK, STACK), ("2 series", "(4, 20, 30)")),
    ],
    ids=["colour", "planar colour", "colours", "4D", "sizes", "two stacks"],
)
def test_what_is_no_stack_of_grey_planes_is_refused(data: bytes, sentence: tuple[str, ...], refused: Callable) -> None:
    with refused("a.tif", *sentence, "one stack of grey planes", "save it as one"):
        decode_stack(data, "a.tif")


@pytest.mark.parametrize(
    ("data", "reason"),
    [(png(GREY8), "not a TIFF"), (b"<html>\nPlease log in.\n", "not a TIFF"), (b"II", ""), (b"II*\0", "")],
)
def test_what_is_no_tiff_is_no_stack(data: bytes, reason: str, refused: Callable) -> None:
    with refused("a.tif cannot be read as a TIFF stack", reason, "download it again"):
        decode_stack(data, "a.tif")


def test_a_compression_that_is_not_known_is_no_call_to_download_alone(refused: Callable) -> None:
    data = bytearray(tiff(STACK, photometric="minisblack", compression="zlib"))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        place = file.pages.first.tags["Compression"].valueoffset
    data[place : place + 2] = struct.pack("<H", tifffile.COMPRESSION.JPEGXL)
    with refused("a.tif", "JPEGXL", "save it without compression"):
        decode_stack(bytes(data), "a.tif")


def test_labels_keep_their_numbers(tmp_path: Path) -> None:
    labels = np.zeros((20, 30), np.int64)
    labels[:4, :4], labels[10:, 10:] = 70_000, 3
    for name, data in {
        "int32.tif": tiff(labels.astype(np.int32)),
        "uint32.tif": tiff(labels.astype(np.uint32), compression="zlib"),
        "whole.tif": tiff(labels.astype(np.float32)),
    }.items():
        (tmp_path / name).write_bytes(data)
        read = read_labels(tmp_path / name)
        assert read.dtype == np.int32 and np.array_equal(read, labels)
    (tmp_path / "8.png").write_bytes(png((labels > 3).astype(np.uint8) * 255))
    assert read_labels(tmp_path / "8.png").max() == 255, "one object may have any number"
    (tmp_path / "0.png").write_bytes(png(np.zeros((4, 4), np.uint8)))
    assert read_labels(tmp_path / "0.png").max() == 0, "an image without objects is fine"


SEPARATE = np.zeros((20, 30), np.uint8)
SEPARATE[2:5, 2:5] = SEPARATE[10:15, 10:15] = 255


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("binary.png", png(SEPARATE), ("binary mask", "255", "2 separate regions", "skimage.measure.label")),
        ("binary.tif", tiff(SEPARATE > 0), ("binary mask", "2 separate regions")),
        ("colour.png", png(RGB8), ("colour image", "one channel")),
        ("negative.tif", tiff(SEPARATE.astype(np.int16) - 1), ("no object numbers", "whole numbers")),
        ("fraction.tif", tiff(FLOAT), ("no object numbers", "whole numbers")),
        ("nan.tif", tiff(np.full((4, 4), np.nan, np.float32)), ("no object numbers", "whole numbers")),
        ("huge.tif", tiff(np.full((4, 4), 2**31, np.uint32)), ("no object numbers", "whole numbers")),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_is_no_label_image_is_refused(
    name: str, data: bytes, sentence: tuple[str, ...], refused: Callable, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    with refused(tmp_path / name, *sentence):
        read_labels(tmp_path / name)


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


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_image_types(dtype: type) -> None:
    top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1

    def image(*colour: float) -> np.ndarray:
        return (np.ones((8, 8, len(colour))) * colour * top).astype(dtype)

    assert image_type(image(0.1, 0.1, 0.1)) == image_type(image(0.1)[..., 0]) == "fluorescence"
    assert image_type(image(0.8, 0.8, 0.8)) == image_type(image(0.8)[..., 0]) == "brightfield"
    assert image_type(image(0.7, 0.5, 0.7)) == "purple-on-purple"
    white = image(0.7, 0.5, 0.7)
    white[:2] = top
    assert image_type(white) == "purple-on-white" and not is_grey(white)
