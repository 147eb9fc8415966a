"""Keeps the records of tested runs, and writes RESULTS.md, its pages and its figure from all that are kept."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cli.records import Run, read_run
from cli.references import References, read_references
from karyon.errors import DataError, cannot_write
from results.data_page import data_page, other_page
from results.figure import draw
from results.front import OTHERS, front
from results.provenance import PROVENANCE, provenance
from results.unseen import elsewhere, is_benchmark, read_benchmark

OWN = Path(__file__).parent
"""The project's own folder of results."""

BENCHMARK = "benchmark.json"


def write(files: Sequence[Path], folder: Path | None, output: Path | None, run_id: str | None = None) -> None:
    """Keeps the files given and writes all pages anew.

    Args:
        files: records of tested runs, any number of them, and the file of a benchmark.
        folder: for ``records``, ``benchmark.json``, ``figure.png`` and the pages; its ``references.yaml`` or, where it
            has none, the project's counts. None for the project's own, which takes nothing that its references lack.
        output: the first page; None for ``RESULTS.md`` in the folder, or above it where it is the project's own.
        run_id: what to call the run of the one record; by default its own name.

    Raises:
        DataError: a file cannot be used, or it is not said where to keep it; nothing is written then.
    """
    place = folder or _own_folder()
    listed = place / "references.yaml"
    references = read_references(listed if listed.exists() else OWN / "references.yaml")
    kept = {run.id: run for run in (read_run(path, path.stem) for path in sorted((place / "records").glob("*.json")))}
    benchmark = read_benchmark(place / BENCHMARK) if (place / BENCHMARK).exists() else {}
    added = _read(files, run_id)
    for path, content in added.values():
        if folder is None and (unknown := _unknown(references, content)):
            raise DataError(
                f"{path} is of {unknown}, which {listed} does not have: add it there, or say by --results_dir where to "
                "keep the file and write the pages."
            )
        if isinstance(content, Run):
            kept[content.id] = content
        else:
            benchmark = content
    rank = {system.id: position for position, system in enumerate(references.systems)}
    runs = sorted(kept.values(), key=lambda run: (rank.get(run.id, len(rank)), run.id))
    output = output or (place.parent if place.resolve() == OWN else place) / "RESULTS.md"
    try:
        for name, (path, _) in added.items():
            _keep(path, place / name)
        _write(references, runs, benchmark, place, output)
    except OSError as error:
        raise cannot_write(error.filename or place, error, "or choose another folder with --results_dir") from None
    print(f"Wrote {output}, and the pages and {place / 'figure.png'} that it shows.")


def _own_folder() -> Path:
    folder = Path("results")
    if folder.resolve() != OWN:
        raise DataError(
            "Say by --results_dir where to keep records and write the pages: this is no clone of the project."
        )
    return folder


def _read(files: Sequence[Path], run_id: str | None) -> dict[str, tuple[Path, Any]]:
    """Each file and what it holds, a run or a benchmark, by the name that it is kept under."""
    if run_id and len(files) != 1:
        raise DataError("--as ID names one run: give one RECORD with it.")
    added: dict[str, tuple[Path, Any]] = {}
    for path in files:
        content = read_benchmark(path) if is_benchmark(path) else read_run(path, run_id)
        name = f"records/{content.id}.json" if isinstance(content, Run) else BENCHMARK
        if name in added:
            raise DataError(
                f"{added[name][0]} and {path} would both be kept as {name}: give one, or rename by --as ID."
            )
        added[name] = path, content
    return added


def _unknown(references: References, content: Any) -> str:
    """What the references do not name: a run, or a set of a benchmark; empty if all is known."""
    if isinstance(content, Run):
        return "" if references.system(content.id) else f"a run {content.id}"
    others = content["sets"].keys() - {entry["set"] for entry in references.unseen}
    return f"a set {min(others)}" if others else ""


def _keep(path: Path, copy: Path) -> None:
    print(f"{path} is kept as {copy}{', in place of an earlier one' if copy.exists() else ''}.")
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")


def _write(references: References, runs: list[Run], benchmark: dict[str, Any], place: Path, output: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    draw(references, runs, place / "figure.png")
    relative = Path(os.path.relpath(place, output.parent)).as_posix()
    pages = {output: front(references, runs, benchmark.get("sets", {}), relative)}
    for page in references.pages:
        pages[place / page["file"]] = data_page(references, page, runs)
        if page["data"] == "unseen":
            pages[place / page["file"]] += "\n" + elsewhere(benchmark, references.unseen)
    pages[place / PROVENANCE] = provenance(references, runs)
    (place / OTHERS).unlink(missing_ok=True)
    if others := [run for run in runs if references.system(run.id) is None]:
        pages[place / OTHERS] = other_page(others)
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
