import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from cli.results import results
from cli.results_page import duration
from cli.results_records import Run, read_references, run_name, trained
from datamodules.sample import DataError

ROOT = Path(__file__).parents[2]
REFERENCES = read_references(ROOT / "results" / "references.yaml")


def made_up(name: str, metrics: dict[str, float], command: str = "", **fit: Any) -> dict[str, Any]:
    """A record as a tested run leaves it."""
    provenance = {
        "command": f"python -m cli fit --config configs/reference/{name}.yaml {command}".strip(),
        "date": "2026-01-02T03:04:05+00:00",
        "commit": "0123456789ab",
        "seed": 42,
        "hardware": "CPU, 2 cores",
        "wall_s": 4350.0,
    }
    training = {
        "model": "DenseSegmenter",
        "parameters": 1941105,
        "epochs": 40,
        "max_epochs": 40,
        "steps": 1360,
        "interrupted": False,
        "precision": "32-true",
    }
    checkpoint = f"runs/{name}/version_0/checkpoints/best.ckpt"
    tested = {"checkpoint": checkpoint, "metrics": {f"test/{key}": value for key, value in metrics.items()}}
    return {"fit": {**provenance, **training, **fit}, "test": {**provenance, **tested}}


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
    results([*map(str, args), "--results_dir", str(place / "results"), "--output", str(output)])
    return output.read_text(encoding="utf-8")


def row(page: str, run_id: str, column: int = 0) -> list[str]:
    """The cells of the first row of a run, or of a later one."""
    lines = [line for line in page.splitlines() if line.startswith(f"| `{run_id}` |")]
    return [cell.strip() for cell in lines[column].strip("|").split(" | ")]


def test_without_records_every_system_waits(place: Path) -> None:
    page = run_results(place)
    assert sum(bool(system.published) for system in REFERENCES.systems) == 16
    for system in REFERENCES.systems:
        cells = row(page, system.id)
        assert cells[2] == "not yet"
        for figure, value in system.published.items():
            assert f"{value:g}" in cells, figure
    for run in REFERENCES.queue:
        assert page.index("## GPU queue") < page.index(f"`{run['command']}`: {run['why']}") < page.index("## R1")
    for entry in REFERENCES.public:
        assert " / ".join(f"{value:g}" for value in entry["figures"].values()) in page
    for entry in REFERENCES.benchmarks:
        assert f"| {entry['what']} | {entry['figure']} | `{entry['command']}` | {entry['measured']} |" in page


def test_a_measured_figure_stands_in_its_row_and_nowhere_else(place: Path) -> None:
    metrics = {"accuracy": 0.97123, "miou": 0.84567, "dsb_score": 0.35189, "dsb_score/fluorescence": 0.45678}
    page = run_results(place, write(place, made_up("r3-unet", metrics)))
    assert row(page, "r3-unet")[3:] == ["0.97", "0.9712", "0.81", "-"]
    assert row(page, "r3-unet", 1) == ["`r3-unet`", "0.3519", "0.8457", "0.9712"]
    assert row(page, "r3-unet", 2) == ["`r3-unet`", "0.4568"]
    assert "not yet" in row(page, "r3-simple-cnn") and "not yet" in row(page, "r2-unet")
    public = [line for line in page.splitlines() if "0.3519 (`r3-unet`)" in line]
    same_images = [entry for entry in REFERENCES.public if entry["data"] == "DSB2018"]
    assert len(public) == len(same_images) == 5
    assert page.count("0.9712") == 2


def test_best_of_ours_is_the_highest_of_the_same_data(place: Path) -> None:
    for name, score in [("r3-unet", 0.3), ("r2-unet", 0.4), ("r4-unet-adam-1e-4", 0.6), ("quickstart", 0.7)]:
        page = run_results(place, write(place, made_up(name, {"dsb_score": score})))
    assert page.count("0.4000 (`r2-unet`)") == 5
    assert "(`quickstart`)" not in page and "(`r4-unet-adam-1e-4`)" not in page


def test_beside_figures_of_the_original_annotation_stand_ours_of_it(place: Path) -> None:
    for name, score in [("r3-unet", 0.3), ("default-model", 0.4)]:
        page = run_results(place, write(place, made_up(name, {"dsb_score": score})))
    assert page.count("0.3000 (`r3-unet`)") == 3 and page.count("0.4000 (`default-model`)") == 2


def test_figures_of_other_images_are_called_so(place: Path) -> None:
    page = run_results(place, write(place, made_up("isbi-unet", {"v_rand": 0.91234, "v_info": 0.95678})))
    assert page.count("0.9123 / 0.9568 (`isbi-unet`, on other images)") == 2
    assert page.count("0.9123 (`isbi-unet`, on other images)") == 1


def test_provenance_says_what_ran_and_that_the_code_differed(place: Path) -> None:
    record = made_up("r3-unet", {"accuracy": 0.97}, precision="bf16-mixed", commit="feedfeedfeed-dirty")
    provenance = run_results(place, write(place, record)).partition("## Provenance")[2]
    for fact in (
        record["fit"]["command"],
        "seed 42",
        "CPU, 2 cores",
        "1 h 12 min",
        "bf16-mixed",
        "2026-01-02T03:04:05",
    ):
        assert fact in provenance
    assert provenance.count("`feedfeedfeed-dirty` (**with uncommitted changes**)") == 1
    assert provenance.count("uncommitted") == 1


@pytest.mark.parametrize(
    ("fit", "command", "schedule", "expected"),
    [
        ({}, "", {"epochs": 40}, "full (40 epochs)"),
        ({"epochs": 27}, "", {"epochs": 40}, "full (stopped early at 27 of 40 epochs)"),
        (
            {"epochs": 27, "max_epochs": 60},
            "--trainer.max_epochs 60",
            {"epochs": 40},
            "full (stopped early at 27 of 40 epochs)",
        ),
        ({"epochs": 60, "max_epochs": 60}, "--trainer.max_epochs 60", {"epochs": 40}, "full (60 epochs)"),
        ({"epochs": 27, "interrupted": True}, "", {"epochs": 40}, "partial (27 of 40 epochs, interrupted)"),
        ({"epochs": 1, "max_epochs": 1}, "--trainer.max_epochs 1", {"epochs": 40}, "partial (1 of 40 epochs)"),
        ({"epochs": 9}, "--trainer.max_time=00:00:10:00", {"epochs": 40}, "partial (9 of 40 epochs)"),
        ({}, "--trainer.overfit_batches 4", {"epochs": 40}, "partial (40 of 40 epochs, --trainer.overfit_batches)"),
        ({"steps": 500}, "--trainer.max_steps 500", {"steps": 10000}, "partial (500 of 10000 steps)"),
        ({"steps": 10000, "epochs": 5}, "", {"steps": 10000}, "full (10000 steps)"),
        ({"epochs": 3, "max_epochs": 3}, "", None, "full (3 epochs)"),
        ({"epochs": 3, "max_epochs": -1}, "", None, "full (3 epochs)"),
        ({"epochs": 3, "max_epochs": -1}, "--trainer.max_time 00:00:10:00", None, "partial (3 epochs)"),
        (
            {"epochs": 3, "max_epochs": 3},
            "--trainer.max_epochs=3",
            None,
            "partial (3 of 3 epochs, --trainer.max_epochs)",
        ),
    ],
)
def test_partial_training_is_said(
    fit: dict[str, Any], command: str, schedule: dict[str, int] | None, expected: str
) -> None:
    record = made_up("r3-unet", {}, command, **fit)
    assert trained(Run("r3-unet", record["fit"], record["test"]), schedule) == expected


def test_partial_training_stands_in_the_table(place: Path) -> None:
    record = made_up("r3-unet", {"accuracy": 0.9}, epochs=3, max_epochs=3)
    assert row(run_results(place, write(place, record)), "r3-unet")[2] == "partial (3 of 40 epochs)"


def test_a_test_without_training_record_is_accepted(place: Path) -> None:
    record = {**made_up("r1-two-stage", {"dsb_score": 0.4}), "fit": None}
    page = run_results(place, write(place, record))
    assert row(page, "r1-two-stage")[2:] == ["no record of the training", "0.5", "0.4000"]
    assert "- trained: no record" in page


def test_other_runs_have_their_section(place: Path) -> None:
    assert "## Other runs" not in run_results(place)
    page = run_results(place, write(place, made_up("quickstart", {"dsb_score": 0.81, "v_rand": float("nan")})))
    other = page.partition("## Other runs")[2].partition("## Public")[0]
    assert row(other, "quickstart") == ["`quickstart`", "full (40 epochs)"]
    assert row(other, "quickstart", 1) == ["`quickstart`", "0.8100"]


def test_the_time_an_image_took_stands_beside_its_figures(place: Path) -> None:
    timed, untimed = made_up("fast", {"dsb_score": 0.5}), made_up("older", {"dsb_score": 0.6})
    timed["test"]["seconds_per_image"] = 0.123
    page = run_results(place, write(place, timed), write(place, untimed, "older.json"))
    other = page.partition("## Other runs")[2].partition("## Public")[0]
    assert "| id | DSB score | s an image |" in other
    assert row(other, "fast", 1) == ["`fast`", "0.5000", "0.12"]
    assert row(other, "older", 1) == ["`older`", "0.6000", "-"]


def test_records_stay_and_a_newer_one_replaces(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run_results(place, write(place, made_up("r3-unet", {"accuracy": 0.91})))
    kept = place / "results" / "records" / "r3-unet.json"
    assert json.loads(kept.read_text())["test"]["metrics"] == {"test/accuracy": 0.91}
    (place / "record.json").unlink()
    assert run_results(place) == first
    assert "in place of" not in capsys.readouterr().out
    second = run_results(place, write(place, made_up("r3-unet", {"accuracy": 0.92})))
    assert "in place of an earlier one" in capsys.readouterr().out
    assert "0.9200" in second and "0.9100" not in second


def test_as_names_the_record(place: Path) -> None:
    record = write(place, made_up("unnamed", {"accuracy": 0.93}))
    page = run_results(place, record, "--as", "r2-fcn")
    assert "0.9300" in row(page, "r2-fcn")
    assert (place / "results" / "records" / "r2-fcn.json").is_file()


def test_the_same_records_give_the_same_bytes(place: Path) -> None:
    records = [write(place, made_up(name, {"accuracy": 0.9}), f"{name}.json") for name in ("r3-unet", "zebra", "ant")]
    run_results(place, *records)
    files = [place / "RESULTS.md", place / "results" / "figure.png"]
    before = [file.read_bytes() for file in files]
    run_results(place, *reversed(records))
    assert [file.read_bytes() for file in files] == before


VALID = made_up("r3-unet", {"accuracy": 0.9})


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "There is no record"),
        ("not json", "is no record of a run"),
        ("[1, 2]", "is no record of a run"),
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


def test_ambiguous_names_are_refused(place: Path) -> None:
    one, two = (write(place, VALID, f"{name}.json") for name in ("one", "two"))
    with pytest.raises(DataError, match="are both of a run r3-unet"):
        run_results(place, one, two)
    with pytest.raises(DataError, match="one RECORD"):
        run_results(place, one, two, "--as", "r3-unet")
    with pytest.raises(DataError, match="--as ID"):
        run_results(place, one, "--as", "../r3-unet")


def test_a_damaged_kept_record_and_missing_references_are_named(place: Path) -> None:
    (place / "results" / "records").mkdir()
    damaged = write(place / "results" / "records", "{", "r3-unet.json")
    with pytest.raises(DataError, match="is no record of a run") as caught:
        run_results(place)
    assert str(damaged) in str(caught.value)
    with pytest.raises(DataError, match="--results_dir"):
        run_results(place / "results")


def test_configs_are_named_after_their_systems() -> None:
    for system in REFERENCES.systems:
        assert system.section in REFERENCES.sections
        assert system.data in REFERENCES.baselines or system.section == "Karyon"
        assert set(system.published) <= set(REFERENCES.figures)
        if system.config:
            path = Path(system.config)
            if system.section == "Karyon":
                assert (ROOT / path).exists()
                continue
            assert path.parent == Path("configs/reference") and system.id.startswith(path.stem)
            # Those of later parts are not written yet.
            if (ROOT / path).exists():
                assert yaml.safe_load((ROOT / path).read_text())["name"] == path.stem
    ids = {system.id for system in REFERENCES.systems}
    assert {config.stem for config in (ROOT / "configs" / "reference").glob("r3-*.yaml")} <= ids


def test_queued_commands_and_benchmarks_name_files_that_exist() -> None:
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
        assert picture.width == 1650 and 700 < picture.height < 1650
        red = sum(n for n, colour in picture.convert("RGB").getcolors(1 << 24) or [] if colour == (0xD1, 0x49, 0x5B))
    # The legend alone has a little of our colour; bars and dots of runs add a good deal.
    assert (red > 2000) == bool(names)


def test_run_name_and_duration() -> None:
    assert run_name(Path("/data/runs/a.b/version_12/checkpoints/last.ckpt")) == "a.b"
    assert run_name(Path("runs/a/version_x/checkpoints/last.ckpt")) is None
    assert [duration(seconds) for seconds in (599, 600, 3599)] == ["599 s", "10 min", "1 h 0 min"]


def test_the_command_line_helps() -> None:
    command = [sys.executable, "-m", "cli", "results", "--help"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for option in ("RECORD", "--as", "--results_dir", "--output"):
        assert option in printed


def test_a_corrected_annotation_is_said(place: Path) -> None:
    record = made_up("r3-unet", {"accuracy": 0.9})
    assert "annotation" not in row(run_results(place, write(place, record)), "r3-unet")[2]
    record["fit"]["annotation"] = "corrected"
    assert row(run_results(place, write(place, record)), "r3-unet")[2].endswith(", corrected annotation")


def test_validation_figures_stand_beside_those_of_the_test(place: Path) -> None:
    record = made_up("r3-unet", {"accuracy": 0.9, "dsb_score": 0.3})
    record["val"] = {**record["test"], "metrics": {"val/accuracy": 0.9871, "val/miou": 0.8765}}
    page = run_results(place, write(place, record))
    assert row(page, "r3-unet")[-1] == "0.8765"
    assert "0.9871" in row(page, "r3-unet", 1)
