"""The content manifest: what every image of a public data set must look like, whatever archive it came in."""

import csv
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from datamodules.cache import Record
from karyon.commands.console import counted
from karyon.errors import DataError
from karyon.io.reading import read_table

Content = dict[str, dict[str, str]]
"""For each image, the columns of the content manifest."""


def read_content_manifest(path: Path) -> dict[str, Content]:
    """Reads a content manifest.

    Returns:
        for each archive, its images' rows.

    Raises:
        DataError: the file cannot be read, or is not such a table.
    """
    expected: dict[str, Content] = {}
    try:
        for row in read_table(Path(path)):
            columns = {column: row[column] for column in ("objects", "image_sha256", "labels_sha256")}
            expected.setdefault(row["archive"], {})[row["name"]] = columns
    except (DataError, KeyError, ValueError, csv.Error):
        expected = {}
    if not expected:
        raise DataError(
            f"{path} is not a readable content manifest: give null, or the table that came with the project."
        )
    return expected


def check_content(records: Sequence[Record], expected: Content, where: Path) -> None:
    """Compares what was read with the manifest.

    Raises:
        DataError: an image is missing, unknown, or differs in its pixels or nuclei.
    """
    remedy = "download the archive again, or pass manifest: null to use data of your own"
    found = {record.name: record for record in records}
    if missing := sorted(expected.keys() - found.keys()):
        raise DataError(f"{where} lacks {len(missing)} of {len(expected)} images, {missing[0]} first: {remedy}.")
    if unknown := sorted(found.keys() - expected.keys()):
        raise DataError(
            f"{where} holds {counted(len(unknown), 'image')} not in the manifest, {unknown[0]} first: {remedy}."
        )
    for name, row in expected.items():
        if found[name].image_sha256 != row["image_sha256"]:
            raise DataError(f"{where}: the pixels of image {name} differ from the published ones; {remedy}.")
        if found[name].labels_sha256 != row["labels_sha256"]:
            raise DataError(
                f"{where}: the nuclei of image {name} differ from the published ones ({found[name].objects} here, "
                f"{row['objects']} there); {remedy}."
            )


def content_fingerprint(expected: Content) -> str:
    """A short name for the content that a manifest pins."""
    lines = "\n".join(f"{name} {row['image_sha256']} {row['labels_sha256']}" for name, row in sorted(expected.items()))
    return sha256(lines.encode()).hexdigest()[:12]
