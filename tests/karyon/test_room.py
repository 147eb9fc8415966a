"""What a file takes is compared with what there is before it is unpacked, and the bound is the user's."""

import csv
import io
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from PIL import Image

from karyon.commands.options import OptionParser, add_max_size
from karyon.io.reading import read_image, read_table
from karyon.io.room import MAX_SIZE, bound, check_bound, check_room

Refused = Callable[..., AbstractContextManager[None]]


def test_what_is_declared_is_compared_with_the_room_there_is(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    check_room("a.tif", 2**20, 2**10, 1032)
    check_room("a.tif", 2**60, 2**60, 1, unpacked=False)
    with refused("a.tif takes 1.15e+09 GB", "free in the folder of temporary files", "cut it, or raise", "--max-size"):
        check_room("a.tif", 2**60, 2**60, 1)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 2**20}))
    with refused("a.tif takes 1.07 GB, and 0.00105 GB are free in memory"):
        check_room("a.tif", 2**30, 2**30, 1)
    with refused("a.zip: b takes 1e-06 GB, and 1e-07 GB are usual in such a file", "--max-size"):
        check_bound("a.zip: b", 1000, usual=100)


def test_the_bound_is_the_users(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    blank = io.BytesIO()
    Image.new("L", (3000, 3000)).save(blank, "PNG")
    monkeypatch.setattr("karyon.io.reading.LARGEST", 10**6)
    with refused("a.png, 3000 x 3000 px, takes 0.009 GB", "usual", "--max-size"):
        read_image(blank.getvalue(), "a.png")
    monkeypatch.setenv(MAX_SIZE, "9M")
    assert read_image(blank.getvalue(), "a.png").shape == (3000, 3000)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 2**20}))
    check_room("a.tif", 9e6, 9e6, 1)
    with refused("a.tif takes 0.009 GB, and 0.009 GB are allowed", f"{MAX_SIZE}=100G"):
        check_room("a.tif", 9e6 + 1, 9e6 + 1, 1)
    monkeypatch.setenv(MAX_SIZE, "much")
    with refused("KARYON_MAX_SIZE is much"):
        read_image(blank.getvalue(), "a.png")


def test_a_pipe_and_a_table_without_end_are_not_read(tmp_path: Path, refused: Refused) -> None:
    os.mkfifo(tmp_path / "a.png")
    with refused(tmp_path / "a.png", "is a pipe or a device"):
        read_image(tmp_path / "a.png")
    with (tmp_path / "table.csv").open("wb") as file:
        file.truncate(2**43)
    with refused(tmp_path / "table.csv", "takes 8.8e+03 GB", "free in memory"):
        next(read_table(tmp_path / "table.csv"))


@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_a_table_is_read_as_spreadsheets_write_it(sign: str, tmp_path: Path) -> None:
    rows = [["image", "plate"], ["a.tif", 'P "1"'], ["b,c;d.tif", "2,5"], ["e\nf", ""]]
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=sign).writerows(rows)
    assert [list(row.values()) for row in read_table(tmp_path / "a.csv")] == rows[1:]


def test_an_option_sets_the_bound_of_all_processes(monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setenv(MAX_SIZE, "1M")
    parser = OptionParser(prog="karyon check")
    add_max_size(parser)
    assert vars(parser.parse_args([])) == {} and bound(5) == 1e6 and bound(10**7) == 10**7
    parser.parse_args(["--max-size", "2.5G"])
    assert bound(5) == 2.5e9
    with refused("argument --max-size: much is not an amount of memory: expected 4G, or 800M"):
        parser.parse_args(["--max-size", "much"])
