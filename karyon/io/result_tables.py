"""Tables of a set of images, which grow with it, are resumed, and are merged from those of several processes."""

import csv
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from karyon.errors import DataError
from karyon.io.file_names import without_suffix
from karyon.io.tables import OBJECT_COLUMNS
from karyon.io.whole_files import whole

TABLES: dict[str, tuple[str, ...]] = {
    "objects": OBJECT_COLUMNS,
    # As the Data Science Bowl wants it.
    "run_lengths": ("ImageId", "EncodedPixels"),
    "counts": ("image", "objects", "confidence", "note"),
}


FORMULA = r"'*[=+\-@\t\r]"


def complete_images(folder: Path, part: str = "") -> set[str]:
    """Names of the images of which a folder of results holds everything.

    Args:
        folder: of results.
        part: of which process's tables, see `ResultFolder`.
    """
    counts = folder / f"counts.csv{part}"
    return {row[0] for row in read_rows(counts) if len(row) == len(TABLES["counts"])} if counts.exists() else set()


def begin_table(path: Path, columns: tuple[str, ...], complete: set[str]) -> None:
    """Writes a table's header, and of the rows that are there those of complete images.

    Raises:
        DataError: it was written with other columns, by an earlier release.
    """
    resumed = complete and path.exists()
    if resumed and next(read_rows(path, 0), list(columns)) != list(columns):
        raise DataError(f"{path} has other columns than this release writes: choose another --out, or --overwrite it.")
    rows = read_rows(path) if resumed else iter(())
    with whole(path) as beginning, beginning.open("w", newline="", encoding="utf-8") as file:
        write_rows(file, [columns])
        known = complete | set(map(without_suffix, complete))
        write_rows(file, (row for row in rows if len(row) == len(columns) and row[0] in known))


def merge_parts(folder: Path) -> None:
    """Appends the rows of the other processes to the tables of the first, and removes their files.

    An image that a sampler has given to several processes, to make their shares equal, is listed once.

    Args:
        folder: holds the tables, and a ``<table>.part<rank>`` of each other process.
    """
    listed = complete_images(folder)
    for table, columns in TABLES.items():
        if any(folder.glob(f"{table}.csv.part*")):
            # Its last row may be cut, or there is no first process.
            begin_table(folder / f"{table}.csv", columns, listed)
    for counts in sorted(folder.glob("counts.csv.part*")):
        new = complete_images(folder, counts.suffix) - listed
        listed |= new
        known = new | set(map(without_suffix, new))
        for part in folder.glob(f"*.csv{counts.suffix}"):
            with part.with_suffix("").open("a", newline="", encoding="utf-8") as file:
                write_rows(file, (row for row in read_rows(part) if row[0] in known))
            part.unlink()


def drop_parts(folder: Path) -> None:
    """Removes the tables of other processes that an earlier run has left."""
    for left in folder.glob("*.csv.part*"):
        left.unlink()


def read_rows(path: Path, headers: int = 1) -> Iterator[list[str]]:
    """The rows of a table below its header."""
    # A single object's run lengths can be longer than the 131,072 characters that are allowed by default.
    csv.field_size_limit(sys.maxsize)
    # Where a process was ended or the disk was full, the last row has no end, and its last character may be cut.
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.reader(line for line in file if line.endswith(("\n", "\r")))
        for first, *rest in filter(None, islice(rows, headers, None)):
            yield [plain_name(first), *rest]


def plain_name(cell: str) -> str:
    """A name as it was before `write_rows` made it harmless.

    >>> plain_name("'=1+1"), plain_name("'quoted'")
    ('=1+1', "'quoted'")
    """
    return cell[1:] if re.match(f"'{FORMULA}", cell) else cell


def write_rows(file: TextIO, rows: Iterable[Sequence[Any]]) -> None:
    """Appends rows, of which the first cell is a name.

    One that a spreadsheet would take for a formula has an apostrophe before it, which `read_rows` takes away.
    """
    for first, *rest in rows:
        cells = [f"'{first}" if re.match(FORMULA, str(first)) else first, *rest]
        # The module quotes what holds its own end of line, which is another one.
        if any("\r" in str(cell) for cell in cells):
            csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(cells)
        else:
            csv.writer(file, lineterminator="\n").writerow(cells)
