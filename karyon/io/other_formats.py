"""Files that are not read: which they are, and what to do with them."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from karyon.errors import DataError

# What microscopes' programs write, and no free reader of ours reads.
MICROSCOPES = {
    *(".zvi", ".lsm5", ".lof", ".xlef", ".vsi", ".ets", ".oib", ".oif", ".oir", ".poir"),
    *(".ims", ".mrxs", ".bif", ".mvd2", ".dv", ".r3d", ".stk", ".flex", ".c01", ".dib", ".dm3", ".dm4", ".mrc", ".dcm"),
}
BY_OTHERS = "by the microscope's program or by Fiji with Bio-Formats"
EXPORT = f"export OME-TIFF of them, {BY_OTHERS}"


def passed_over(files: Iterable[Path]) -> str:
    """What is to be said of files that are not read; "" where there are none.

    >>> passed_over([Path("a.vsi"), Path("b.vsi"), Path("notes.txt"), Path("LICENSE")])[:52]
    'Passed over: 2 .vsi, which Karyon cannot read: expor'
    """
    kinds = Counter(path.suffix.lower() or "without suffix" for path in files)
    unread = _listed({kind: count for kind, count in kinds.items() if kind in MICROSCOPES})
    others = _listed({kind: count for kind, count in kinds.items() if kind not in MICROSCOPES})
    parts = [f"{unread}, which Karyon cannot read: {EXPORT}"] if unread else []
    parts += [f"{others}, which Karyon does not read: save images among them as TIFF or PNG"] if others else []
    return f"Passed over: {'; '.join(parts)}." if parts else ""


def unread_below(folder: Path) -> list[Path]:
    """Files of microscopes' formats below a folder."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in MICROSCOPES and path.is_file())


def refuse_unread(path: Path) -> None:
    """Raises a `DataError` for a file of a format that cannot be read."""
    if (kind := path.suffix.lower()) in MICROSCOPES:
        raise DataError(f"{path} is a {kind} file, which Karyon cannot read: {EXPORT.replace('them', 'it')}.")


def _listed(kinds: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
