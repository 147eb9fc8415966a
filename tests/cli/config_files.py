"""The configs, told apart: those that stand alone, and those that are added behind another."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
_ALL = sorted((ROOT / "configs").rglob("*.yaml"))
COMPLETE = [path for path in _ALL if "class_path" in path.read_text() and "model:" in path.read_text()]
ADDITIONS = [path for path in _ALL if path not in COMPLETE]
