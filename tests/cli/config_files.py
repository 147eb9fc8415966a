"""The configs, told apart: those that stand alone, those that are added behind another, and sweeps over them."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
_ALL = {path: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "configs").rglob("*.yaml"))}
SWEEPS = [path for path in _ALL if path.parent.name == "sweeps"]
COMPLETE = [
    path for path, config in _ALL.items() if all("class_path" in config.get(part, {}) for part in ("model", "data"))
]
ADDITIONS = [path for path in _ALL if path not in COMPLETE and path not in SWEEPS]
