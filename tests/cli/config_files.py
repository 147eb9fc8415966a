"""The configs, told apart: those that stand alone, those that are added behind another, those that are made of
others' checkpoints, those that need several processes, and sweeps over them."""

import csv
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
_ALL = {path: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "configs").rglob("*.yaml"))}
SWEEPS = [path for path in _ALL if path.parent.name == "sweeps"]
_WHOLE = [
    path for path, config in _ALL.items() if all("class_path" in config.get(part, {}) for part in ("model", "data"))
]
# Made of other configs' checkpoints.
COMPOSED = [path for path in _WHOLE if "TwoStage" in _ALL[path]["model"]["class_path"]]
COMPLETE = [path for path in _WHOLE if path not in COMPOSED]
SEVERAL_PROCESSES = [path for path in _ALL if path.parent.name == "processes"]
ADDITIONS = [path for path in _ALL if path not in [*_WHOLE, *SWEEPS, *SEVERAL_PROCESSES]]


def learned(metrics: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv without what the machine was doing meanwhile."""
    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: row[key] for key in row if not key.endswith("_per_second") and "system/" not in key} for row in rows]
