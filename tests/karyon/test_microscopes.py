"""Files of microscopes' own formats are read by bioio's readers, and give what was written."""

import struct
import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from pylibCZIrw import czi

from karyon.errors import DataError
from karyon.io import microscopes
from karyon.io.lazy_image import LazyImage
from karyon.io.reading import open_image, read_image
from karyon.planes import PixelSize

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 2**16, (3, 2, 48, 64), np.uint16)  # Z, C, Y, X
RGB = RNG.integers(0, 2**8, (48, 64, 3), np.uint8)


def write_czi(path: Path, stack: np.ndarray, side: float = 0.25) -> Path:
    """A stack (Z, C, Y, X) of pixels of that side, um, in steps of 1 um."""
    with czi.create_czi(str(path), exist_ok=True) as file:
        for z, planes in enumerate(stack):
            for c, plane in enumerate(planes):
                file.write(plane[..., None], plane={"Z": z, "C": c, "T": 0})
        file.write_metadata(document_name="a", scale_x=side * 1e-6, scale_y=side * 1e-6, scale_z=1e-6)
    return path


def write_scenes(path: Path, scenes: list[np.ndarray]) -> Path:
    with czi.create_czi(str(path), exist_ok=True) as file:
        for number, pixels in enumerate(scenes):
            file.write(pixels[..., None], plane={"C": 0}, scene=number, location=(500 * number, 0))
    return path


def write_lif(path: Path, stack: np.ndarray) -> Path:
    """A stack (Z, C, Y, X) of uint8 in pixels of .5 um, as Leica's programs lay it out: XML, then pixels."""
    depth, channels, height, width = stack.shape
    dimensions = "".join(
        f'<DimensionDescription DimID="{number}" NumberOfElements="{count}" Origin="0" '
        f'Length="{(count - 1) * 5e-7}" Unit="m" BitInc="0" BytesInc="{step}"/>'
        for number, count, step in (
            (1, width, 1),
            (2, height, width),
            (3, depth, channels * height * width),
        )
    )
    described = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="8" NameOfMeasuredQuantity="" Min="0" Max="255" '
        f'Unit="" LUTName="Gray" IsLUTInverted="0" BytesInc="{c * height * width}" BitInc="0"/>'
        for c in range(channels)
    )
    header = (
        f'<LMSDataContainerHeader Version="2"><Element Name="a" Visibility="1"><Data/><Children><Element Name="one">'
        f"<Data><Image><ImageDescription><Channels>{described}</Channels><Dimensions>{dimensions}</Dimensions>"
        f'</ImageDescription></Image></Data><Memory Size="{stack.nbytes}" MemoryBlockID="MemBlock_1"/></Element>'
        f'</Children><Memory Size="0" MemoryBlockID="MemBlock_0"/></Element></LMSDataContainerHeader>'
    )
    name = "MemBlock_1"
    xml, block = header.encode("utf-16-le"), name.encode("utf-16-le")
    with path.open("wb") as file:
        file.write(struct.pack("<iibi", 0x70, 5 + len(xml), 0x2A, len(header)) + xml)
        file.write(struct.pack("<iibqbi", 0x70, 14 + len(block), 0x2A, stack.nbytes, 0x2A, len(name)) + block)
        file.write(stack.tobytes())
    return path


def test_planes_and_channels_of_zeiss(tmp_path: Path) -> None:
    path = write_czi(tmp_path / "a.czi", STACK)
    pages = open_image(path, channel=2)
    assert (pages.shape, pages.axes, pages.channel) == ((3,), "Z", (1, 2))
    assert pages.pixel_size == PixelSize(0.25, 0.25, 1.0)
    assert all(np.array_equal(pages.read(z), STACK[z, 1]) for z in range(3))
    with pytest.raises(DataError, match=r"a\.czi has 2 channels: choose the one with the objects"):
        open_image(path)


def test_colours_of_zeiss_are_red_first(tmp_path: Path) -> None:
    with czi.create_czi(str(tmp_path / "a.CZI")) as file:
        file.write(RGB[..., ::-1].copy(), plane={"C": 0})
    assert np.array_equal(read_image(tmp_path / "a.CZI"), RGB)
    assert np.array_equal(open_image(tmp_path / "a.CZI", channel=2).read(0), RGB[..., 1])


def test_scenes_of_one_size_are_images(tmp_path: Path) -> None:
    pages = open_image(write_scenes(tmp_path / "a.czi", [STACK[0, 0], STACK[1, 0]]))
    assert (pages.shape, pages.axes, pages.pixel_size) == ((2,), "P", None)
    assert all(np.array_equal(pages.read(k), STACK[k, 0]) for k in (1, 0))


def test_scenes_of_other_sizes_lie_in_one_image(tmp_path: Path) -> None:
    image = read_image(write_scenes(tmp_path / "a.czi", [STACK[0, 0], STACK[1, 0, :20]]))
    assert image.shape == (48, 564)
    assert np.array_equal(image[:, :64], STACK[0, 0]) and np.array_equal(image[:20, 500:], STACK[1, 0, :20])
    assert not image[:, 64:500].any()


def test_dimensions_that_are_not_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_czi(tmp_path / "a.czi", STACK)
    # Which ZEISS's library reads, and does not write.
    box = dict.fromkeys("TZCXYH", (0, 3))
    monkeypatch.setattr(czi.CziReader, "total_bounding_box_no_pyramid", box)
    with pytest.raises(DataError, match=r"a\.czi has further dimensions, H \(3\): save each as an OME-TIFF"):
        open_image(path)


def test_no_more_is_decoded_than_a_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_czi(tmp_path / "a.czi", STACK)
    monkeypatch.setattr(microscopes, "LARGE", 0)
    image = open_image(path, channel=1).open(2)
    assert isinstance(image, LazyImage) and (image.shape, image.dtype) == ((48, 64), np.uint16)
    sizes = []
    read = czi.CziReader.read

    def reads(*args: object, **kwargs: object) -> np.ndarray:
        pixels = read(*args, **kwargs)
        sizes.append(pixels.shape[:2])
        return pixels

    monkeypatch.setattr(czi.CziReader, "read", reads)
    assert np.array_equal(image[10:20, 5:40], STACK[2, 0, 10:20, 5:40])
    assert sizes == [(10, 35)]


def test_lower_resolutions_of_zeiss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = RNG.integers(0, 2**16, (12, 16), np.uint16)
    path = write_czi(tmp_path / "a.czi", blocks.repeat(4, 0).repeat(4, 1)[None, None])
    monkeypatch.setattr(microscopes, "LARGE", 0)
    monkeypatch.setattr(microscopes, "OVERVIEW", 16)
    image = open_image(path).open(0)
    assert isinstance(image, LazyImage) and [image.at(k).shape for k in range(3)] == [(48, 64), (24, 32), (12, 16)]
    assert np.array_equal(image.at(2)[:, :], blocks) and np.array_equal(image.at(2)[3:9, 5:6], blocks[3:9, 5:6])


def test_planes_and_channels_of_leica(tmp_path: Path) -> None:
    stack = (STACK >> 8).astype(np.uint8)
    pages = open_image(write_lif(tmp_path / "a.lif", stack), channel=1)
    assert (pages.shape, pages.axes, pages.channel) == ((3,), "Z", (0, 2))
    assert pages.pixel_size is not None and (pages.pixel_size.x, pages.pixel_size.y) == (0.5, 0.5)
    assert all(np.array_equal(pages.read(z), stack[z, 0]) for z in (2, 0, 1))


@pytest.mark.parametrize("write", [write_czi, write_lif])
def test_a_worker_that_is_forked_reads_too(write: Callable[[Path, np.ndarray], Path], tmp_path: Path) -> None:
    path = write(tmp_path / f"a.{write.__name__[-3:]}", (STACK >> 8).astype(np.uint8))
    open_image(path, channel=1).read(0)
    worker = get_context("fork").Process(target=lambda: open_image(path, channel=1).read(1))
    worker.start()
    worker.join(60)
    worker.kill()
    assert worker.exitcode == 0


@pytest.mark.parametrize("suffix", ["czi", "nd2", "lif"])
def test_a_reader_that_is_missing_is_named(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(bytes(100))
    for module in ("pylibCZIrw.czi", "bioio_nd2", "bioio_lif"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=rf'pip install "karyon\[{suffix}\]"; or export OME-TIFF'):
        open_image(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("suffix", ["czi", "nd2", "lif"])
@pytest.mark.parametrize("content", [b"", bytes(100), b"ZISRAWFILE" + bytes(90)], ids=["empty", "zeros", "cut short"])
def test_what_is_damaged_is_told_in_a_sentence(suffix: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.{suffix} (cannot be read|is empty)"):
        open_image(tmp_path / f"a.{suffix}")
