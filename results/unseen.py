"""Images from elsewhere: what ``python -m cli benchmark`` left, as a part of their page."""

import json
from pathlib import Path
from typing import Any

from cli.benchmark_page import ABOUT, FIGURES, KINDS, doubt, set_table
from karyon.commands.console import table
from karyon.errors import DataError

NEEDED = {*FIGURES, *KINDS, "count_error", "seconds", "images", "objects_true", "each"}


def is_benchmark(path: Path) -> bool:
    """Whether a file is a benchmark's, be it whole or not."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "sets" in content


def read_benchmark(path: Path) -> dict[str, Any]:
    """Reads what a benchmark left.

    Raises:
        DataError: something is missing.
    """
    content = json.loads(path.read_text(encoding="utf-8")) if is_benchmark(path) else {}
    try:
        figures = [found for methods in content["sets"].values() for found in methods.values() if found]
        whole = all(found.keys() >= NEEDED for found in figures) and content.keys() >= {"commit", "hardware", "date"}
    except (AttributeError, KeyError):
        whole = False
    if not whole:
        raise DataError(f"{path} is not a whole benchmark: give benchmark.json as `python -m cli benchmark` wrote it.")
    return content


def sources(unseen: list[dict[str, str]]) -> str:
    """Where the images come from, and what they may be used for."""
    header = ["set", "what", "size", "median diameter", "source", "licence"]
    rows = [[entry[key] for key in ("set", "what", "size", "diameter", "source", "licence")] for entry in unseen]
    return "\n\n".join(["## Sources and licences", table(header, rows, words=len(header))])


def measured(benchmark: dict[str, Any], unseen: list[dict[str, str]]) -> str:
    """A table for each set, and how well the models' own scores tell good images from bad ones."""
    about = {entry["set"]: f"{entry['what']}; {entry['size']}." for entry in unseen}
    parts = ["## Measured", ABOUT]
    parts.append(f"Commit `{benchmark['commit']}`, {benchmark['hardware']}, {benchmark['date']}.")
    for name, methods in benchmark["sets"].items():
        if any(methods.values()):
            parts += [f"### {name}", *([about[name]] if name in about else []), set_table(methods)]
    return "\n\n".join([*parts, "### Doubt", doubt(benchmark["sets"])])
