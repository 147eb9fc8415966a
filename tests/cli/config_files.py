"""The configs, told apart: those that stand alone, those that are added behind another, and sweeps over them."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
_ALL = sorted((ROOT / "configs").rglob("*.yaml"))
SWEEPS = [path for path in _ALL if path.parent.name == "sweeps"]
COMPLETE = [path for path in _ALL if "class_path" in path.read_text() and "model:" in path.read_text()]
ADDITIONS = [path for path in _ALL if path not in COMPLETE and path not in SWEEPS]
