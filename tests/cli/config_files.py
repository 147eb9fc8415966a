"""The configs, told apart: those that stand alone, those that are added behind another, those that are made of
others' checkpoints, and sweeps over them."""

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
ADDITIONS = [path for path in _ALL if path not in _WHOLE and path not in SWEEPS]
