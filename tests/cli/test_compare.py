import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from config_files import ROOT
from report_pages import Page

from cli import compare

Run = Callable[..., int]
Small = Callable[[Path], list[object]]

QUICKSTART = ROOT / "configs" / "quickstart.yaml"
FOREGROUND, BORDER = (ROOT / "configs" / "representations" / f"{name}.yaml" for name in ("foreground", "border"))


@pytest.fixture
def trainings(run: Run, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs each training here instead of in a process of its own, and keeps the variants' names."""
    names = []

    def call(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        names.append(command[command.index("--name") + 1])
        return subprocess.CompletedProcess(command, run(*command[3:]))

    # The module of its own: the record of a run asks git by another.
    monkeypatch.setattr(compare, "subprocess", SimpleNamespace(run=call))
    return names


def test_variants_are_trained_alike_and_a_failure_is_gone_on_from(
    run: Run, small: Small, trainings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("data: {init_args: {channels: 2}}\n")
    args = ["compare", FOREGROUND, broken, "--config", QUICKSTART, "--name", "two", *small(QUICKSTART)[2:]]
    assert run(*args) == 2
    assert f"The variant {broken} failed (exit code 2)" in capsys.readouterr().err
    shutil.copy(BORDER, broken)
    assert run(*args) == 0
    assert trainings == ["foreground", "broken", "broken"]
    folder = tmp_path / "runs" / "two"
    rows = [line for line in (folder / "comparison.md").read_text().splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| foreground", "| broken"]
    page = Page(folder / "comparison.html")
    for name, row, (shown, *cells) in zip(("foreground", "broken"), rows[2:], page.table("runs").rows(), strict=True):
        record = json.loads((folder / name / "version_0" / "record.json").read_text())
        score = f"{record['test']['metrics']['test/dsb_score']:.4f}"
        assert score in row and score in cells and shown == name
        assert record["fit"]["seed"] == 42

    # The newest run is shown, also where the numbers have two digits, and what is done is not done again.
    for version in (9, 10):
        shutil.copytree(folder / "broken" / "version_0", folder / "broken" / f"version_{version}")
    record["test"]["metrics"]["test/dsb_score"] = 0.4321
    (folder / "broken" / "version_10" / "record.json").write_text(json.dumps(record))
    assert run(*args) == 0
    assert len(trainings) == 3
    assert "| broken | 0.4321 |" in (folder / "comparison.md").read_text()


def test_missing_files_and_namesakes_are_refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twin = tmp_path / FOREGROUND.name
    twin.write_text("{}")
    for variants, sentence in [
        (["nowhere.yaml"], "There is no config nowhere.yaml"),
        ([FOREGROUND, twin], "Two variants have one name"),
    ]:
        assert run("compare", *variants, "--config", QUICKSTART) == 2
        assert sentence in capsys.readouterr().err
