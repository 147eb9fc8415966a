"""Images from elsewhere: what ``python -m cli benchmark`` left, as a part of their page."""

import json
from pathlib import Path
from typing import Any

from cli.benchmark_page import ABOUT, FIGURES, KINDS, doubt, set_table
from cli.records import FIGURES as METRICS
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


def elsewhere(benchmark: dict[str, Any], unseen: list[dict[str, Any]]) -> str:
    """All that is measured, where anything is, and the sources of the images."""
    parts = ["## Nuclei", *_nuclei(benchmark, unseen)] if benchmark else []
    if rows := membranes(unseen):
        parts += ["## Membranes", table(["set", "model", "figures", "measured"], rows, words=4)]
    keys = ("set", "what", "size", "diameter", "source", "licence")
    rows = [[entry[key] for key in keys] for entry in unseen]
    return "\n\n".join([*parts, "## Sources and licences", table(keys, rows, words=len(keys))]) + "\n"


def membranes(unseen: list[dict[str, Any]]) -> list[list[str]]:
    """Set, model, figures and how they were measured, of sets that the benchmark of nuclei does not score."""
    return [
        [entry["set"], f"`{found['model']}`", _in_words(found["metrics"]), found["how"]]
        for entry in unseen
        for found in entry.get("figures", [])
    ]


def _in_words(metrics: dict[str, float]) -> str:
    return ", ".join(f"{METRICS[metric]} {value:.4f}" for metric, value in metrics.items())


def _nuclei(benchmark: dict[str, Any], unseen: list[dict[str, Any]]) -> list[str]:
    """A table for each set, and how well the models' own scores tell good images from bad ones."""
    about = {entry["set"]: f"{entry['what']}; {entry['size']}." for entry in unseen}
    parts = [ABOUT, f"Commit `{benchmark['commit']}`, {benchmark['hardware']}, {benchmark['date']}."]
    for name, methods in benchmark["sets"].items():
        if any(methods.values()):
            parts += [f"### {name}", *([about[name]] if name in about else []), set_table(methods)]
    return [*parts, "### Doubt", doubt(benchmark["sets"])]
