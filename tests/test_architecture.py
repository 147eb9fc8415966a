"""Who may import whom, and how large a file may grow."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("cli", "datamodules", "karyon", "lightning_modules")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# Inside lightning_modules, a part may import parts of a lower number (and itself).
LAYERS = {
    "networks": 0,
    "losses": 0,
    "wandb_logger": 0,
    "checkpoint_io": 0,
    "instances": 0,
    "detections": 0,
    "symmetry": 0,
    "representations": 1,
    "metrics": 1,
    "overlay": 1,
    "contact_sheet": 2,
    "pasting": 1,
    "inference": 2,
    "tuning": 2,
    "blocks": 2,
    "formats": 2,
    "detection_decoders": 2,
    "detector": 3,
    "callbacks": 3,
    "segmenter": 3,
    "trained": 4,
    "crop_segmenter": 4,
    "two_stage": 5,
    "stage_bounds": 6,
    "sharding": 0,
}


def imports(path: Path) -> set[str]:
    """Modules of the project that a file imports."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
    return {module for module in modules if module.split(".")[0] in PACKAGES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    for module in imports(path):
        top = module.split(".")[0]
        if package == "datamodules":
            assert top == "datamodules"
        if package == "karyon":
            assert top != "cli"
        if package == "lightning_modules":
            assert top == "lightning_modules" or module == "datamodules.sample"
            if top == "lightning_modules":
                own = path.relative_to(ROOT / "lightning_modules").parts[0].removesuffix(".py")
                other = module.split(".")[1]
                assert own == other or LAYERS[other] < LAYERS[own]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
