"""What the documentation points to exists, and what it quotes is what was measured."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from cli.__main__ import main
from cli.commands import ALL

ROOT = Path(__file__).parents[1]
RESULTS = [ROOT / "RESULTS.md", *ROOT.glob("results/*.md")]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("results/*.md")]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
FILES = pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: str(path.relative_to(ROOT)))


def prose(path: Path) -> str:
    """The text of a page, or of a notebook's Markdown cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")


def anchors(path: Path) -> list[str]:
    """Of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path), flags=re.MULTILINE)
    return ["".join(c for c in heading.lower() if c.isalnum() or c in "-_ ").replace(" ", "-") for heading in headings]


@FILES
def test_relative_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if not re.match(r"https?:", target):
            file, _, anchor = target.partition("#")
            assert (path.parent / file).exists(), target
            assert not anchor or anchor in anchors(path.parent / file if file else path), target


@FILES
def test_commands_and_configs_exist(path: Path) -> None:
    text = prose(path)
    assert {command for command in re.findall(r"python -m cli (\w+)", text) if command != "COMMAND"} <= ALL.keys()
    for config in re.findall(r"configs/[\w/*.-]+\.yaml", text):
        assert list(ROOT.glob(config)), config


def commands(path: Path) -> list[str]:
    """Commands of Lightning's in a page's blocks, whose configs come with Karyon."""
    lines = "".join(re.findall(r"```bash\n(.*?)```", prose(path), flags=re.DOTALL)).splitlines()
    matches = [
        re.match(r"(?:pip install uv && )?(?:uv run (?:--\S+ (?:\w+ )?)?)?python -m cli (.+)", line) for line in lines
    ]
    return [
        command
        for command in dict.fromkeys(match[1] for match in matches if match)
        if not ALL[command.split()[0]][0] and "mine." not in command
        if all((ROOT / config).is_file() for config in re.findall(r"--config (\S+)", command))
    ]


@pytest.mark.parametrize("command", [command for path in PAGES for command in commands(path)])
def test_the_options_of_a_command_are_known(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["cli", *shlex.split(command, comments=True), "--print_config"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0


def test_every_page_and_notebook_can_be_found_from_the_readme() -> None:
    readme = prose(ROOT / "README.md")
    for path in [*ROOT.glob("docs/*.md"), *NOTEBOOKS]:
        assert f"({path.relative_to(ROOT).as_posix()})" in readme


def tables(text: str) -> list[tuple[list[str], list[list[str]]]]:
    """Header and rows of each Markdown table."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        header, _, *rows = ([cell.strip() for cell in line.strip("|\n").split(" | ")] for line in block.splitlines())
        found.append((header, rows))
    return found


def test_the_figures_in_the_gallery_are_those_of_the_benchmark() -> None:
    sets = json.loads((ROOT / "results" / "benchmark.json").read_text())["sets"]
    anchors = {"hela": "hela-ctc", "mouse": "gowt1-ctc", "u2os": "u2os-coelho", "glioblastoma": "gbm-he"}
    ((_, rows),) = tables(prose(ROOT / "docs" / "gallery.md"))
    assert len(rows) == len(anchors) <= len(sets)
    for place, model, baseline in rows:
        (name,) = (name for word, name in anchors.items() if f"#{word}" in place)
        found = {method: f"{figures['dsb_score']:.2f}" for method, figures in sets[name].items() if figures}
        told = re.fullmatch(r"([\d.]+)(?: \(`tissue`: ([\d.]+)\))?", model)
        assert told and (told[1], baseline) == (found["nuclei"], found["classical"]), name
        assert told[2] in (None, found.get("tissue")), name


def test_the_figures_in_the_readme_are_those_of_the_results() -> None:
    measured = {
        (row[0], title): cell
        for path in RESULTS
        for header, rows in tables(prose(path))
        for row in rows
        for title, cell in zip(header, row, strict=True)
    }
    references = yaml.safe_load((ROOT / "results" / "references.yaml").read_text())
    published = {f"`{system['id']}`": system["published"] for system in references["systems"]}
    rows = [
        (row[0], dict(zip(header[2:], row[2:], strict=True)))
        for header, rows in tables(prose(ROOT / "README.md"))
        if header[1:3] == ["model", "published"]
        for row in rows
    ]
    assert len(rows) >= 4
    for name, cells in rows:
        figure = re.fullmatch(r"-|\D+ ([\d.]+)", cells.pop("published"))
        assert figure and (figure[1] is None or float(figure[1]) in published[name].values()), name
        for title, cell in cells.items():
            assert cell == measured.get((name, title), "not yet"), (name, title)
