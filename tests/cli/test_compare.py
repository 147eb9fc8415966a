import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from config_files import ROOT
from PIL import Image

from cli import compare

Run = Callable[..., int]
Small = Callable[[Path], list[object]]

QUICKSTART = ROOT / "configs" / "quickstart.yaml"
VARIANTS = [ROOT / "configs" / "representations" / f"{name}.yaml" for name in ("foreground", "border")]


@pytest.fixture
def shared(small: Small) -> list[object]:
    """The options that follow the config, for every variant."""
    return small(QUICKSTART)[2:]


@pytest.fixture
def in_this_process(run: Run, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Runs each training here instead of in a process of its own, and keeps the commands."""
    commands = []

    def call(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command[3:])
        return subprocess.CompletedProcess(command, run(*command[3:]))

    # The module of its own: the record of a run asks git by another.
    monkeypatch.setattr(compare, "subprocess", SimpleNamespace(run=call))
    return commands


def test_variants_are_trained_alike_and_tabulated(
    run: Run, shared: list[object], in_this_process: list[list[str]], tmp_path: Path
) -> None:
    assert run("compare", *VARIANTS, "--config", QUICKSTART, "--name", "two", *shared) == 0
    folder = tmp_path / "runs" / "two"
    rows = [line for line in (folder / "comparison.md").read_text().splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| foreground", "| border"]
    for name, row in zip(("foreground", "border"), rows[2:], strict=True):
        record = json.loads((folder / name / "version_0" / "record.json").read_text())
        assert f"{record['test']['metrics']['test/dsb_score']:.4f}" in row
        assert record["fit"]["seed"] == 42
    with Image.open(folder / "comparison.png") as picture:
        assert picture.width == 1200

    # The newest run is shown, also where the numbers have two digits.
    for version in (9, 10):
        shutil.copytree(folder / "border" / "version_0", folder / "border" / f"version_{version}")
    newest = folder / "border" / "version_10" / "record.json"
    record = json.loads(newest.read_text())
    record["test"]["metrics"]["test/dsb_score"] = 0.4321
    newest.write_text(json.dumps(record))

    # What is done is not done again.
    assert len(in_this_process) == 2
    assert run("compare", *VARIANTS, "--config", QUICKSTART, "--name", "two", *shared) == 0
    assert len(in_this_process) == 2
    assert "| border | 0.4321 |" in (folder / "comparison.md").read_text()


def test_a_failure_stops_and_the_same_command_goes_on(
    run: Run,
    shared: list[object],
    in_this_process: list[list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("data: {init_args: {channels: 2}}\n")
    args = ["compare", VARIANTS[0], broken, "--config", QUICKSTART, *shared]
    assert run(*args) == 2
    assert f"The variant {broken} failed (exit code 2)" in capsys.readouterr().err
    broken.write_text("seed_everything: 7\n")
    assert run(*args) == 0
    assert [command[command.index("--name") + 1] for command in in_this_process] == ["foreground", "broken", "broken"]


def test_missing_files_and_namesakes_are_refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", "nowhere.yaml", "--config", QUICKSTART) == 2
    assert "There is no config nowhere.yaml" in capsys.readouterr().err
    twin = tmp_path / VARIANTS[0].name
    twin.write_text("{}")
    assert run("compare", VARIANTS[0], twin, "--config", QUICKSTART) == 2
    assert "Two variants have one name" in capsys.readouterr().err
