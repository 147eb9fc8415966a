"""The table of objects as Parquet: columns of numbers, read in a moment by pandas, Polars, DuckDB and R."""

from itertools import islice
from pathlib import Path

from karyon.errors import DataError
from karyon.io.result_tables import read_rows
from karyon.io.tables import OBJECT_COLUMNS
from karyon.io.whole_files import whole

WHOLE = {"id", "area", "x0", "y0", "x1", "y1"}
ROWS = 100_000  # in memory at once


def check_parquet() -> None:
    """Raises a `DataError` where what writes Parquet is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise DataError(
            'Parquet needs the package pyarrow: pip install "karyon[parquet]", or leave the format parquet out.'
        ) from None


def write_parquet(table: Path, path: Path) -> None:
    """Writes ``objects.csv`` as Parquet, part by part; what is empty there is null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = [
        pa.string() if name == "image" else pa.int64() if name in WHOLE else pa.float64() for name in OBJECT_COLUMNS
    ]
    schema = pa.schema(list(zip(OBJECT_COLUMNS, kinds, strict=True)))
    with whole(path) as writing, pq.ParquetWriter(writing, schema) as writer:
        rows = read_rows(table)
        while part := list(islice(rows, ROWS)):
            columns = [pa.array([cell or None for cell in column]) for column in zip(*part, strict=True)]
            arrays = [column.cast(kind) for column, kind in zip(columns, kinds, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
