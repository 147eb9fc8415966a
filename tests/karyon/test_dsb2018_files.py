"""DSB2018's layout: archives and folders read alike, and what is wrong with them is said."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from karyon.labels import encode_run_lengths
from karyon.layouts.dsb2018_annotation import SolutionTable
from karyon.layouts.dsb2018_files import (
    Archive,
    Entry,
    Folder,
    listing_digest,
    open_source,
    read_entry_image,
    read_entry_labels,
    scan_layout,
)

SIZE = (20, 30)


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def square(start: int, stop: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[start:stop, start:stop] = 255
    return mask


IMAGE = png(np.zeros((*SIZE, 4), np.uint8))
GOOD = {"x/images/x.png": IMAGE, "x/masks/b.png": png(square(0, 5)), "x/masks/a.png": png(square(10, 16))}


def folder(root: Path, files: dict[str, bytes]) -> Folder:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return Folder(root)


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return path


def test_an_archive_and_its_extracted_folder_are_the_same(layout: Path, archives: Path) -> None:
    for name in ("stage1_train", "stage1_test"):
        extracted, packed = open_source(layout, name), open_source(archives, name)
        assert isinstance(extracted, Folder) and isinstance(packed, Archive)
        assert extracted.sizes() == packed.sizes() and listing_digest(extracted) == listing_digest(packed)
        assert scan_layout(extracted) == scan_layout(packed)
        assert all(extracted.read(file) == packed.read(file) for file in extracted.sizes())


def test_the_folder_wins_over_the_archive_and_nothing_is_none(tmp_path: Path) -> None:
    assert open_source(tmp_path, "stage1_train") is None
    archive(tmp_path / "stage1_train.zip", GOOD)
    assert isinstance(open_source(tmp_path, "stage1_train"), Archive)
    folder(tmp_path / "stage1_train", GOOD)
    assert isinstance(open_source(tmp_path, "stage1_train"), Folder)


def test_the_listing_digest_follows_names_and_sizes(tmp_path: Path) -> None:
    variants = [GOOD, {**GOOD, "y/images/y.png": IMAGE}, {**GOOD, "x/images/x.png": IMAGE + b"0"}]
    assert len({listing_digest(folder(tmp_path / str(i), files)) for i, files in enumerate(variants)}) == 3


@pytest.mark.parametrize(
    "name",
    ["../evil.png", "x/../../evil.png", "/etc/evil.png", "C:\\evil.png", "C:/evil.png", "..\\evil.png", "\\evil"],
)
def test_an_archive_that_climbs_out_is_refused(name: str, tmp_path: Path, refused: Callable) -> None:
    path = archive(tmp_path / "stage1_train.zip", {**GOOD, name: IMAGE})
    with refused(path, f"({name!r})", "climbs out", "public address"):
        Archive(path)


def damage(data: bytes) -> bytes:
    start = data.index(b"x/images/x.png") + len("x/images/x.png") + 12
    return data[:start] + bytes([data[start] ^ 0xFF]) + data[start + 1 :]


def encrypt(data: bytes) -> bytes:
    # Bit 0 of the flags, in the entry's own header and in the directory.
    data = data.replace(b"PK\x03\x04\x14\0\0", b"PK\x03\x04\x14\0\1")
    return data.replace(b"PK\x01\x02\x14\x03\x14\0\0", b"PK\x01\x02\x14\x03\x14\0\1")


@pytest.mark.parametrize(("change", "sentence"), [(damage, "download the archive again"), (encrypt, "encrypted")])
def test_a_damaged_or_encrypted_entry_is_refused(
    change: Callable[[bytes], bytes], sentence: str, tmp_path: Path, refused: Callable
) -> None:
    path = archive(tmp_path / "stage1_train.zip", GOOD)
    path.write_bytes(change(path.read_bytes()))
    with refused(path, "x/images/x.png", "damaged", sentence):
        read_entry_image(Archive(path), Entry("x", "x/images/x.png"))


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_a_cut_archive_is_refused(keep: float, archives: Path, tmp_path: Path, refused: Callable) -> None:
    data = (archives / "stage1_train.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(data[: int(len(data) * keep)])
    with refused(tmp_path / "cut.zip", "not a readable zip archive", "download it again"):
        Archive(tmp_path / "cut.zip")


def test_wrapping_folders_and_what_macos_adds_are_overlooked_and_harmless_entries_let_in(tmp_path: Path) -> None:
    files = {f"stage1_train/{name}": data for name, data in GOOD.items()}
    files |= {"__MACOSX/stage1_train/x/images/._x.png": b"", "stage1_train/.DS_Store": b"", "readme.txt": b""}
    (entry,) = scan_layout(folder(tmp_path, files))
    assert entry.name == "x" and entry.image == "stage1_train/x/images/x.png" and len(entry.masks) == 2
    path = archive(tmp_path / "a.zip", {**GOOD, "./": b"", "x/..name.png/": b"", "notes.txt": b"", "a b/c:d.txt": b""})
    assert [entry.name for entry in scan_layout(Archive(path))] == ["x"]


def test_folders_in_names_may_be_parted_as_windows_does(tmp_path: Path) -> None:
    source = Archive(archive(tmp_path / "a.zip", {name.replace("/", "\\"): data for name, data in GOOD.items()}))
    (entry,) = scan_layout(source)
    assert entry.name == "x" and source.read(entry.image) == IMAGE


def test_the_bound_of_an_entry_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable) -> None:
    monkeypatch.setattr("karyon.layouts.dsb2018_files.LARGEST", 10)
    source = Archive(archive(tmp_path / "a.zip", GOOD))
    with refused(tmp_path / "a.zip", "x/images/x.png takes", "usual in such a file", "--max-size"):
        source.read("x/images/x.png")
    monkeypatch.setenv("KARYON_MAX_SIZE", "1M")
    assert source.read("x/images/x.png") == IMAGE


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"a.png": IMAGE}, ("a.png", "not DSB2018's layout", "FolderDataModule")),
        ({"images/a.png": IMAGE, "labels/a.png": IMAGE}, ("not DSB2018's layout", "FolderDataModule")),
        ({"x/pictures/x.png": IMAGE}, ("x/pictures/x.png", "not DSB2018's layout")),
        ({**GOOD, "x/images/z.png": IMAGE}, ("x has two images", "x/images/x.png", "x/images/z.png", "remove one")),
        ({"y/masks/a.png": IMAGE}, ("y has masks but no image", "restore or remove")),
        ({"x/images/x.tif": IMAGE}, ("holds no image", "<ImageId>/images/<ImageId>.png")),
    ],
)
def test_another_layout_is_refused(
    files: dict[str, bytes], sentence: tuple[str, ...], tmp_path: Path, refused: Callable
) -> None:
    with refused(tmp_path / "data", *sentence):
        scan_layout(folder(tmp_path / "data", files))


def test_masks_become_a_label_image_in_the_order_of_their_names(tmp_path: Path) -> None:
    colour = np.repeat(square(17, 19)[..., None], 4, 2)
    colour[..., 3] = 255  # an opaque alpha channel is no mask
    source = folder(tmp_path, {**GOOD, "x/masks/c.png": png(colour), "x/masks/d.png": png(square(6, 7) // 255)})
    labels = read_entry_labels(source, scan_layout(source)[0], SIZE)
    expected = np.zeros(SIZE, np.int32)
    for number, (start, stop) in enumerate([(10, 16), (0, 5), (17, 19), (6, 7)], start=1):
        expected[start:stop, start:stop] = number
    assert labels.dtype == np.int32 and np.array_equal(labels, expected)


@pytest.mark.parametrize(
    ("name", "mask", "sentence"),
    [
        ("z.png", png(square(0, 5, (21, 30))), ("21 x 30 px", "its image 20 x 30", "replace")),
        ("z.png", png(square(0, 0)), ("empty mask", "remove the file")),
        ("z.png", png(square(4, 11)), ("overlaps", "give each pixel to one nucleus")),
        ("z.png", png(square(4, 6)), ("overlaps b.png in 1 pixels",)),
        ("z.png", png(square(20, 20))[:60], ("z.png cannot be read", "cut short")),
        ("z.png", b"", ("z.png is empty (0 bytes)",)),
        ("", b"", ("has no masks", "add masks/*.png", "or remove the image")),
    ],
)
def test_a_bad_mask_is_refused(
    name: str, mask: bytes, sentence: tuple[str, ...], tmp_path: Path, refused: Callable
) -> None:
    source = folder(tmp_path, {**GOOD, f"x/masks/{name}": mask} if name else {"x/images/x.png": IMAGE})
    with refused(tmp_path / (f"x/masks/{name}" if name else "x"), *sentence):
        read_entry_labels(source, scan_layout(source)[0], SIZE)


def solution(path: Path, *rows: str, header: str = "ImageId,EncodedPixels,Height,Width,Usage") -> Path:
    path.write_text("\n".join([header, *rows, ""]))
    return path


def test_the_solution_table_gives_label_images_and_leaves_ignored_rows_out(tmp_path: Path) -> None:
    first, second = square(0, 5), square(10, 16)
    rows = [f"x,{encode_run_lengths(second > 0)},20,30,Public", f"x,{encode_run_lengths(first > 0)},20,30,Private"]
    table = SolutionTable(solution(tmp_path / "s.csv", *rows, "y,1 1,20,30,Ignored"))
    assert set(table.codes) == {"x"}
    labels = table.read_labels("x", SIZE)
    assert labels.dtype == np.int32 and np.array_equal(labels, (second // 255) + 2 * (first // 255))


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("y,1 1,20,30,Public", ("no row for image x", "different sets")),
        ("x,1 2 3,20,30,Public", ("image x", "not a run-length code")),
        ("x,600 2,20,30,Public", ("image x", "leaves an image of 20 x 30")),
        ("x", ("image x", "not a run-length code")),
        ("x,1 3,20,30,Public\nx,3 1,20,30,Public", ("nucleus 2 of image x overlaps", "repair the row")),
    ],
)
def test_a_bad_row_is_refused(row: str, sentence: tuple[str, ...], tmp_path: Path, refused: Callable) -> None:
    path = solution(tmp_path / "s.csv", row)
    with refused(path, *sentence):
        SolutionTable(path).read_labels("x", SIZE)


def test_what_is_no_solution_table_is_refused(layout: Path, tmp_path: Path, refused: Callable) -> None:
    with refused(tmp_path / "none.csv", "No such file"):
        SolutionTable(tmp_path / "none.csv")
    with refused("s.csv", "ImageId,EncodedPixels"):
        SolutionTable(solution(tmp_path / "s.csv", "x,1 1", header="Image,Code"))
    shutil.copy(next((layout / "stage1_test").rglob("*.png")), tmp_path / "image.csv")
    with refused("image.csv", "ImageId,EncodedPixels"):
        SolutionTable(tmp_path / "image.csv")
