import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_files import ROOT
from PIL import Image
from report_pages import made_up_record

from cli.records import run_name
from cli.references import read_references, trained
from cli.results import results
from karyon.errors import DataError

REFERENCES = read_references(ROOT / "results" / "references.yaml")


def made_up(name: str, metrics: dict[str, float], **fit: Any) -> dict[str, Any]:
    return made_up_record(name, {f"test/{key}": value for key, value in metrics.items()}, **fit)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the published systems and no records, `results` writes into it."""
    (tmp_path / "results").mkdir()
    shutil.copy(ROOT / "results" / "references.yaml", tmp_path / "results")
    return tmp_path


def write(place: Path, record: Any, name: str = "record.json") -> Path:
    path = place / name
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    return path


def run_results(place: Path, *args: str | Path) -> str:
    output = place / "RESULTS.md"
    results(
        [*map(str, args), "--results_dir", str(place / "results"), "--output", str(output)], "python -m cli results"
    )
    return output.read_text(encoding="utf-8")


def row(page: str, run_id: str, column: int = 0) -> list[str]:
    """The cells of the first row of a run, or of a later one."""
    lines = [line for line in page.splitlines() if line.startswith(f"| `{run_id}` |")]
    return [cell.strip() for cell in lines[column].strip("|").split(" | ")]


def test_the_kept_records_give_the_kept_page(place: Path) -> None:
    # The rows, the best of ours beside public scores, the other runs and the provenance of some 60 runs.
    shutil.copytree(ROOT / "results" / "records", place / "results" / "records")
    assert run_results(place) == (ROOT / "RESULTS.md").read_text(encoding="utf-8")


def test_without_records_every_system_waits(place: Path) -> None:
    page = run_results(place)
    assert sum(bool(system.published) for system in REFERENCES.systems) == 16
    for system in REFERENCES.systems:
        cells = row(page, system.id)
        assert cells[2] == "not yet"
        assert {f"{value:g}" for value in system.published.values()} <= set(cells)
    for run in REFERENCES.queue:
        assert page.index("## GPU queue") < page.index(f"`{run['command']}`: {run['why']}") < page.index("## R1")
    for entry in REFERENCES.public:
        assert " / ".join(f"{value:g}" for value in entry["figures"].values()) in page
    for entry in REFERENCES.benchmarks:
        assert f"| {entry['what']} | {entry['figure']} | `{entry['command']}` | {entry['measured']} |" in page
    assert "## Other runs" not in page


def test_measured_values_stand_in_their_row_and_nowhere_else(place: Path) -> None:
    metrics = {"accuracy": 0.97123, "miou": 0.84567, "dsb_score": 0.35189, "dsb_score/fluorescence": 0.45678}
    record = made_up("r3-unet", metrics)
    record["val"] = {**record["test"], "metrics": {"val/accuracy": 0.9871, "val/miou": 0.8765}}
    page = run_results(place, write(place, record))
    assert row(page, "r3-unet")[3:] == ["0.97", "0.9712", "0.81", "0.8765"]
    assert row(page, "r3-unet", 1) == ["`r3-unet`", "0.3519", "0.8457", "0.9712", "0.9871", "0.8765"]
    assert row(page, "r3-unet", 2) == ["`r3-unet`", "0.4568"]
    assert "not yet" in row(page, "r3-simple-cnn") and "not yet" in row(page, "r2-unet")
    public = [line for line in page.splitlines() if "0.3519 (`r3-unet`)" in line]
    same_images = [entry for entry in REFERENCES.public if entry["data"] == "DSB2018"]
    assert len(public) == len(same_images) == 5
    assert page.count("0.9712") == 2


LIMITED, FORTY = "--trainer.max_epochs 60", {"epochs": 40}


@pytest.mark.parametrize(
    ("fit", "command", "schedule", "expected"),
    [
        ({}, "", FORTY, "full (40 epochs)"),
        ({"epochs": 27}, "", FORTY, "full (stopped early at 27 of 40 epochs)"),
        ({"epochs": 27, "max_epochs": 60}, LIMITED, FORTY, "full (stopped early at 27 of 40 epochs)"),
        ({"epochs": 60, "max_epochs": 60}, LIMITED, FORTY, "full (60 epochs)"),
        ({"epochs": 27, "interrupted": True}, "", FORTY, "partial (27 of 40 epochs, interrupted)"),
        ({"epochs": 1, "max_epochs": 1}, "--trainer.max_epochs 1", FORTY, "partial (1 of 40 epochs)"),
        ({"epochs": 9}, "--trainer.max_time=00:00:10:00", FORTY, "partial (9 of 40 epochs)"),
        ({}, "--trainer.overfit_batches 4", FORTY, "partial (40 of 40 epochs, --trainer.overfit_batches)"),
        ({"steps": 500}, "--trainer.max_steps 500", {"steps": 10000}, "partial (500 of 10000 steps)"),
        ({"steps": 10000, "epochs": 5}, "", {"steps": 10000}, "full (10000 steps)"),
        ({"epochs": 3, "max_epochs": 3}, "", None, "full (3 epochs)"),
        ({"epochs": 3, "max_epochs": -1}, "", None, "full (3 epochs)"),
        ({"epochs": 3, "max_epochs": -1}, "--trainer.max_time 00:00:10:00", None, "partial (3 epochs)"),
        ({"max_epochs": 40}, "--trainer.max_epochs=40", None, "partial (40 of 40 epochs, --trainer.max_epochs)"),
        ({"annotation": "corrected"}, "", FORTY, "full (40 epochs), corrected annotation"),
    ],
)
def test_partial_training_is_said(
    fit: dict[str, Any], command: str, schedule: dict[str, int] | None, expected: str
) -> None:
    assert trained(made_up_record("r3-unet", {}, command, **fit)["fit"], schedule) == expected


def test_records_stay_and_a_newer_one_replaces(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run_results(place, write(place, made_up("r3-unet", {"accuracy": 0.91})))
    (place / "record.json").unlink()
    assert run_results(place) == first
    assert "in place of" not in capsys.readouterr().out
    second = run_results(place, write(place, made_up("r3-unet", {"accuracy": 0.92})))
    assert "in place of an earlier one" in capsys.readouterr().out
    assert "0.9200" in second and "0.9100" not in second
    # Another name keeps it beside that one.
    assert "0.9200" in row(run_results(place, place / "record.json", "--as", "r2-fcn"), "r2-fcn")
    assert sorted(path.name for path in (place / "results" / "records").iterdir()) == ["r2-fcn.json", "r3-unet.json"]


def test_the_same_records_give_the_same_bytes(place: Path) -> None:
    records = [write(place, made_up(name, {"accuracy": 0.9}), f"{name}.json") for name in ("r3-unet", "zebra", "ant")]
    files = [place / "RESULTS.md", place / "results" / "figure.png"]
    run_results(place, *records)
    before = [file.read_bytes() for file in files]
    run_results(place, *reversed(records))
    assert [file.read_bytes() for file in files] == before


VALID = made_up("r3-unet", {"accuracy": 0.9})


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "There is no record"),
        ("not json", "is not a record of a run"),
        ("[1, 2]", "is not a record of a run"),
        ({"fit": VALID["fit"]}, "has no test section"),
        ({**VALID, "test": 3}, "lacks test:"),
        ({**VALID, "test": {**VALID["test"], "metrics": {"test/accuracy": "high"}}}, "lacks numbers in test.metrics"),
        ({**VALID, "fit": {"epochs": 3}}, "lacks fit.command"),
        ({**VALID, "test": {"metrics": {}}}, "lacks test.command"),
        (made_up("unnamed", {}), "--as ID"),
        ({**VALID, "test": {**VALID["test"], "checkpoint": "weights/nuclei.ckpt"}}, "--as ID"),
    ],
)
def test_an_unusable_record_is_refused_in_one_sentence(place: Path, content: Any, part: str) -> None:
    path = place / "record.json" if content is None else write(place, content)
    with pytest.raises(DataError) as caught:
        run_results(place, path)
    message = str(caught.value)
    assert str(path) in message and part in message
    assert message.endswith(".") and "\n" not in message and ". " not in message.replace(". _", "")
    assert not (place / "RESULTS.md").exists() and not (place / "results" / "records").exists()


def test_ambiguous_names_and_damaged_records_are_refused(place: Path) -> None:
    one, two = (write(place, VALID, f"{name}.json") for name in ("one", "two"))
    for args, sentence in [
        ((one, two), "are both of a run r3-unet"),
        ((one, two, "--as", "r3-unet"), "one RECORD"),
        ((one, "--as", "../r3-unet"), "--as ID"),
    ]:
        with pytest.raises(DataError, match=sentence):
            run_results(place, *args)
    (place / "results" / "records").mkdir()
    damaged = write(place / "results" / "records", "{", "r3-unet.json")
    with pytest.raises(DataError, match="is not a record of a run") as caught:
        run_results(place)
    assert str(damaged) in str(caught.value)


def test_outside_a_clone_nothing_is_written(
    run: Callable[..., int], place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(place / "results")
    record = write(place, VALID)
    assert run("results", record) == 2
    assert "There is no results/references.yaml: run in a clone of the project" in capsys.readouterr().err
    # As an installed package has it.
    monkeypatch.setitem(sys.modules, "results.write", None)
    assert run("results", record) == 2
    assert "run this in a clone of the project" in capsys.readouterr().err
    assert list(place.iterdir()) == [record]


def test_configs_queue_and_benchmarks_name_what_exists() -> None:
    for system in REFERENCES.systems:
        assert system.section in REFERENCES.sections
        assert system.data in REFERENCES.baselines or system.section == "Karyon"
        assert set(system.published) <= set(REFERENCES.figures)
        if system.config and system.section == "Karyon":
            assert (ROOT / system.config).exists()
        elif system.config:
            path = Path(system.config)
            assert path.parent == Path("configs/reference") and system.id.startswith(path.stem)
            # Those of later parts are not written yet.
            if (ROOT / path).exists():
                assert yaml.safe_load((ROOT / path).read_text())["name"] == path.stem
    ids = {system.id for system in REFERENCES.systems}
    assert {config.stem for config in (ROOT / "configs" / "reference").glob("r3-*.yaml")} <= ids
    for run in REFERENCES.queue:
        words = run["command"].split()
        assert (ROOT / words[words.index("--config") + 1]).is_file()
    for entry in REFERENCES.benchmarks:
        _, path, *_ = entry["command"].split()
        assert path == "-m" or (ROOT / path).is_file()


@pytest.mark.parametrize("names", [[], ["r3-unet", "r2-fcn", "r1-two-stage", "r4-unet-adam-1e-4"]])
def test_the_figure_is_a_readable_picture(place: Path, names: list[str]) -> None:
    metrics = {"accuracy": 0.5, "miou": 0.4, "dsb_score": 0.6}
    run_results(place, *(write(place, made_up(name, metrics), f"{name}.json") for name in names))
    with Image.open(place / "results" / "figure.png") as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.width == 1680 and 700 < picture.height < 1650
        red = sum(n for n, colour in picture.convert("RGB").getcolors(1 << 24) or [] if colour == (0xD1, 0x49, 0x5B))
    # The legend alone has a little of our colour; bars and dots of runs add a good deal.
    assert (red > 2000) == bool(names)


def test_a_run_is_named_after_its_folder() -> None:
    assert run_name(Path("/data/runs/a.b/version_12/checkpoints/last.ckpt")) == "a.b"
    assert run_name(Path("runs/a/version_x/checkpoints/last.ckpt")) is None
