"""The configs, told apart: those that stand alone, those that are added to another, those that are made of
others' checkpoints, and sweeps over them."""

import csv
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "configs" / "quickstart.yaml"
_ALL = {path: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "configs").rglob("*.yaml"))}
SWEEPS = [path for path in _ALL if path.parent.name == "sweeps"]
_WHOLE = [
    path for path, config in _ALL.items() if all("class_path" in config.get(part, {}) for part in ("model", "data"))
]
# Made of other configs' checkpoints.
COMPOSED = [path for path in _WHOLE if "TwoStage" in _ALL[path]["model"]["class_path"]]
COMPLETE = [path for path in _WHOLE if path not in COMPOSED]
ADDITIONS = [path for path in _ALL if path not in [*_WHOLE, *SWEEPS]]


def class_names(config: Any) -> set[str]:
    """All strings in a config, of paths of classes the name of the class."""
    if isinstance(config, dict | list):
        return set().union(*map(class_names, config.values() if isinstance(config, dict) else config))
    return {config.rpartition(".")[2]} if isinstance(config, str) else set()


def learned(metrics: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv without what the machine was doing meanwhile."""
    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: row[key] for key in row if not key.endswith("_per_second") and "system/" not in key} for row in rows]
