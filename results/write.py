"""Keeps the records of tested runs, and writes RESULTS.md and its figure from all that are kept."""

import os
from collections.abc import Sequence
from pathlib import Path

from cli.records import Run, read_run
from cli.references import read_references
from karyon.errors import DataError
from results.figure import draw
from results.page import page


def write(records: Sequence[Path], folder: Path, output: Path, run_id: str | None = None) -> None:
    """Keeps the records given and writes the page anew.

    Args:
        records: of tested runs, any number of them.
        folder: holds ``references.yaml``, ``records`` and ``figure.png``.
        output: the page.
        run_id: what to call the run of the one record; by default its own name.

    Raises:
        DataError: a record or the references cannot be used; nothing is written then.
    """
    if run_id and len(records) != 1:
        raise DataError("--as ID names one run: give one RECORD with it.")
    references = read_references(folder / "references.yaml")
    kept = {run.id: run for run in (read_run(path, path.stem) for path in sorted((folder / "records").glob("*.json")))}
    added: dict[str, tuple[Path, Run]] = {}
    for path in records:
        run = read_run(path, run_id)
        if run.id in added:
            raise DataError(
                f"{added[run.id][0]} and {path} are both of a run {run.id}: give one, or rename by --as ID."
            )
        added[run.id] = path, run
    for path, run in added.values():
        copy = folder / "records" / f"{run.id}.json"
        print(f"{path} is kept as {copy}{', in place of an earlier one' if run.id in kept else ''}.")
        kept[run.id] = run
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    rank = {system.id: position for position, system in enumerate(references.systems)}
    runs = sorted(kept.values(), key=lambda run: (rank.get(run.id, len(rank)), run.id))
    figure = folder / "figure.png"
    draw(references, runs, figure)
    output.write_text(page(references, runs, Path(os.path.relpath(figure, output.parent)).as_posix()), encoding="utf-8")
    print(f"Wrote {output} and {figure}.")
