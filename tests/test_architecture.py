"""Who may import whom, what the library does without, and how large a file may grow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "karyon": {"karyon"},
    "datamodules": {"datamodules", "karyon"},
    "lightning_modules": {"lightning_modules", "karyon"},
    "cli": {"cli", "lightning_modules", "datamodules", "karyon", "results"},
    "results": {"results", "cli", "karyon"},
}
FILES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))
EACH_FILE = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))

# Of the library, what trains or computes by torch; all else works without.
BY_TORCH = (
    *("batch", "losses", "detection/", "networks/", "inference/onnx_file", "representations/one_thread"),
    *("metrics/per_image", "metrics/segmentation", "metrics/coco", "metrics/membrane", "metrics/instance"),
    *("metrics/pixel", *(f"representations/{m}/loss" for m in ("border", "distance", "flow", "foreground", "star"))),
)
NEVER = {"lightning", "jsonargparse", "albumentations", "wandb", "matplotlib"}


def imports(path: Path, top_level: bool = False) -> set[str]:
    """Modules that a file imports, anywhere or as soon as it is imported itself."""
    tree = ast.parse(path.read_text())
    modules: set[str] = set()
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
    return modules


@EACH_FILE
def test_imports_go_one_way(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    tops = {module.split(".")[0] for module in imports(path)}
    assert tops & MAY_IMPORT.keys() <= MAY_IMPORT[own]
    if own == "karyon":
        assert not tops & NEVER
        inside = path.relative_to(ROOT / "karyon").as_posix()
        if not inside.startswith(BY_TORCH):
            assert not {module.split(".")[0] for module in imports(path, top_level=True)} & {"torch", "torchmetrics"}


@EACH_FILE
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize(
    ("code", "without"),
    [
        ("import cli.commands, karyon, karyon.commands.segment, cli.sweep, cli.export, cli.check", "numpy"),
        ("import cli.report, cli.compare, cli.figure, cli.results", "torch"),
        ("import karyon; karyon.load_model('nuclei', device='cpu')", "torch"),
        ("import karyon.commands.segmentation, karyon.commands.check, karyon.commands.convert", "torch"),
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str, without: str) -> None:
    program = f"import sys; {code}; print({without!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False"
