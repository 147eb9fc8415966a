import json
import math
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

from cli.benchmark_page import FIGURES, KINDS
from cli.records import FIGURES as METRICS
from cli.records import Run, run_name
from cli.references import System, how_trained, read_references, trained
from cli.results import results
from karyon.commands.console import number
from karyon.errors import DataError

REFERENCES = read_references(ROOT / "results" / "references.yaml")


def made_up(name: str, metrics: dict[str, float], **fit: Any) -> dict[str, Any]:
    return made_up_record(name, {f"test/{key}": value for key, value in metrics.items()}, **fit)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with no records, `results` writes into it."""
    (tmp_path / "results").mkdir()
    return tmp_path


def write(place: Path, record: Any, name: str = "record.json") -> Path:
    path = place / name
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    return path


def run_results(place: Path, *args: str | Path) -> str:
    """All pages that are written, the first one first."""
    folder, output = place / "results", place / "RESULTS.md"
    results([*map(str, args), "--results_dir", str(folder), "--output", str(output)], "python -m cli results")
    return "\n".join(path.read_text(encoding="utf-8") for path in (output, *sorted(folder.glob("*.md"))))


def rows(page: str, run_id: str) -> list[list[str]]:
    """The cells of the rows of a run, the first page's first."""
    lines = [line for line in page.splitlines() if line.startswith(f"| `{run_id}` |")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def row(page: str, run_id: str, number: int = 0) -> list[str]:
    return rows(page, run_id)[number]


def test_the_kept_records_give_the_kept_pages(place: Path) -> None:
    shutil.copytree(
        ROOT / "results", place / "results", ignore=shutil.ignore_patterns("*.md", "*.py"), dirs_exist_ok=True
    )
    page = run_results(place)
    for path in (ROOT / "RESULTS.md", *(ROOT / "results").glob("*.md")):
        assert (place / path.relative_to(ROOT)).read_text(encoding="utf-8") == path.read_text(encoding="utf-8")
    # Whatever was measured stands on some page.
    for path in (ROOT / "results" / "records").glob("*.json"):
        test = json.loads(path.read_text())["test"]
        cells = {cell for cells in rows(page, path.stem) for cell in cells}
        measured = {name: test["metrics"].get(f"test/{name}", math.nan) for name in METRICS}
        assert {number(value, name) for name, value in measured.items() if not math.isnan(value)} <= cells
        assert f"`{test['command']}`" in page and f"### {path.stem}\n" in page
    assert len((ROOT / "RESULTS.md").read_text(encoding="utf-8")) < 8000


def test_without_records_every_system_waits(place: Path) -> None:
    page = run_results(place)
    assert sum(bool(system.published) for system in REFERENCES.systems) == 16
    for system in REFERENCES.systems:
        compared = REFERENCES.compared(system)
        cells = row(page, system.id, bool(compared))
        assert cells[2] == "not yet"
        assert {f"{value:g}" for value in system.published.values()} <= set(cells)
        first = ", ".join(f"{title} {value:g}" for title, value, _ in compared)
        assert not compared or row(page, system.id)[2:5] == [first, "not yet", "not yet"]
    assert all(f"`{run['command']}`: {run['why']}" in page for run in REFERENCES.queue)
    for entry in REFERENCES.public:
        assert " / ".join(f"{value:g}" for value in entry["figures"].values()) in page
    for entry in REFERENCES.benchmarks:
        assert f"| {entry['what']} | {entry['figure']} | `{entry['command']}` | {entry['measured']} |" in page
    assert "Other runs" not in page and "Spread" not in page
    sets = REFERENCES.unseen
    assert all(f"| {entry['set']} | {entry['what']} |" in page and f"| {entry['licence']} |" in page for entry in sets)


def test_measured_values_stand_in_their_row_and_nowhere_else(place: Path) -> None:
    metrics = {"accuracy": 0.97123, "miou": 0.84567, "dsb_score": 0.35189, "dsb_score/fluorescence": 0.45678}
    record = made_up("r3-unet", metrics)
    record["val"] = {**record["test"], "metrics": {"val/accuracy": 0.9871, "val/miou": 0.8765}}
    page = run_results(place, write(place, record))
    measured, length = "accuracy 0.971, validation mIoU 0.876", "full (40 epochs)"
    assert row(page, "r3-unet")[3:] == [measured, length, "-"]
    assert row(page, "r3-unet", 1)[2:] == [f"[{length}](provenance.md#r3-unet)", "0.97", "0.9712", "0.81", "0.8765"]
    assert row(page, "r3-unet", 2) == ["`r3-unet`", "0.3519", "0.8457", "0.9712", "0.9871", "0.8765"]
    assert row(page, "r3-unet", 3) == ["`r3-unet`", "0.4568"]
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
        ({"steps": 500}, "--trainer.max_steps 500", {"steps": 10000}, "partial (500 of 10,000 steps)"),
        ({"steps": 10000, "epochs": 5}, "", {"steps": 10000}, "full (10,000 steps)"),
        ({"epochs": 3, "max_epochs": 3}, "", None, "full (3 epochs)"),
        ({"epochs": 3, "max_epochs": -1}, "", None, "full (3 epochs)"),
        ({"epochs": 3, "max_epochs": -1}, "--trainer.max_time 00:00:10:00", None, "partial (3 epochs)"),
        ({"max_epochs": 40}, "--trainer.max_epochs=40", None, "partial (40 of 40 epochs, --trainer.max_epochs)"),
        ({"epochs": 1, "max_epochs": 1}, "", None, "full (1 epoch)"),
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
    assert "0.9200" in row(run_results(place, place / "record.json", "--as", "r2-fcn"), "r2-fcn", 1)
    assert sorted(path.name for path in (place / "results" / "records").iterdir()) == ["r2-fcn.json", "r3-unet.json"]


def test_the_same_records_give_the_same_bytes(place: Path) -> None:
    records = [write(place, made_up(name, {"accuracy": 0.9}), f"{name}.json") for name in ("r3-unet", "zebra", "ant")]
    files = [place / "RESULTS.md", *(place / "results" / name for name in ("figure.png", "other.md", "provenance.md"))]
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
        ({**VALID, "stages": 3}, "lacks stages:"),
        ({**VALID, "stages": {"detector": {"fit": {"epochs": 3}}}}, "lacks stages.detector.fit.command"),
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
        ((one, two), "would both be kept as records/r3-unet.json"),
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


def test_only_where_it_is_asked_for_something_is_written(
    run: Callable[..., int], place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(sentence: str, *files: Path) -> bool:
        return run("results", *files) == 2 and sentence in capsys.readouterr().err

    known, own = write(place, VALID), write(place, made_up("mine", {"accuracy": 0.9}), "mine.json")
    sets = write(place, made_up_benchmark(), "benchmark.json")
    # A folder results/ of the user's is not the project's.
    assert refused("Say by --results_dir where", known) and refused("Say by --results_dir where")
    assert run("results", own, sets, "--results_dir", place / "deep" / "kept") == 0
    assert sorted(path.name for path in (place / "deep" / "kept").iterdir()) == [
        *("RESULTS.md", "benchmark.json", "dsb2018.md", "figure.png", "isbi2012.md", "other.md", "provenance.md"),
        *("records", "unseen.md"),
    ]
    assert run("results", own, "--results_dir", own) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert "(other.md)" in (place / "deep" / "kept" / "RESULTS.md").read_text()
    monkeypatch.chdir(ROOT)
    before = {path: path.stat().st_mtime_ns for path in [ROOT / "RESULTS.md", *(ROOT / "results").rglob("*")]}
    assert refused("is of a run mine, which results/references.yaml does not have", own)
    assert refused("is of a set mine, which results/references.yaml does not have", sets)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    # As an installed package has it.
    monkeypatch.setitem(sys.modules, "results.write", None)
    assert refused("run this in a clone of the project", known)


def test_ap_at_each_threshold_stands_beside_what_is_published_of_the_same_images(place: Path) -> None:
    references = yaml.safe_load((ROOT / "results" / "references.yaml").read_text(encoding="utf-8"))
    public = next(entry for entry in references["public"] if "further" in entry)
    system = next(system for system in references["systems"] if system["id"] == "flow-fluorescence")
    references["systems"].append(system | {"id": "same-split", "data": public["data"]})
    (place / "results" / "references.yaml").write_text(yaml.safe_dump(references), encoding="utf-8")
    record = made_up("same-split", {f"ap{threshold}": threshold / 100 for threshold in range(50, 100, 5)})
    page = run_results(place, write(place, record))
    assert row(page, "same-split", -1)[1:] == [f"{threshold / 100:.4f}" for threshold in range(50, 95, 5)]
    [cells] = [
        line.strip("|").split(" | ") for line in page.splitlines() if line.startswith(f"| {public['model']} | 0")
    ]
    measured = public["figures"] | public["further"]
    expected = [number(measured.get(f"ap{threshold}")) for threshold in range(50, 95, 5)]
    assert [cell.strip() for cell in cells[1:]] == expected


def made_up_benchmark(**changed: Any) -> dict[str, Any]:
    figures = dict.fromkeys((*FIGURES, *KINDS, "count_error", "seconds"), 0.5) | {"images": 2, "objects_true": 7}
    each = {"confidence": [0.9, 0.3], "scores": [0.7, 0.1]}
    methods = {
        "nuclei": figures | {"dsb_score": 0.7123, "each": each},
        "classical": figures | {"each": each},
        "cut": {},
    }
    return {
        "sets": {"mine": methods, "u2os-coelho": methods},
        "commit": "c0ffee",
        "hardware": "CPU",
        "date": "2026",
    } | changed


def test_a_benchmark_is_kept_and_shown(place: Path) -> None:
    file = write(place, made_up_benchmark(), "benchmark.json")
    page = run_results(place, file)
    assert "| [u2os-coelho](results/unseen.md#u2os-coelho) | **0.712** | 0.500 | - |" in page
    assert page.count("| `nuclei` | 0.712 | 0.500 |") == 2 and "Commit `c0ffee`, CPU, 2026." in page
    assert "U2OS, Hoechst, large textured nuclei; 20 images, 813 nuclei.\n\n| method |" in page
    assert "greater on the good one in 100% of the pairs (2 good, 2 not)" in page
    file.unlink()
    assert run_results(place) == page
    for sets in ({"mine": {"nuclei": {"ap50": 1.0}}}, {"mine": 3}, [1]):
        with pytest.raises(DataError, match="is not a whole benchmark"):
            run_results(place, write(place, made_up_benchmark(sets=sets), "benchmark.json"))
    assert run_results(place) == page


def test_membranes_from_elsewhere(place: Path) -> None:
    content = yaml.safe_load((ROOT / "results" / "references.yaml").read_text())
    found = {"model": "membranes", "metrics": {"v_rand": 0.91234, "v_info": 0.95}, "how": "by hand"}
    next(entry for entry in content["unseen"] if entry["set"] == "vnc")["figures"] = [found]
    (place / "results" / "references.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    page = run_results(place)
    assert "## Images from elsewhere\n\nMembranes, `vnc`: `membranes` has V_rand 0.9123, V_info 0.9500." in page
    assert "| vnc | `membranes` | V_rand 0.9123, V_info 0.9500 | by hand |" in page and "## Nuclei\n" not in page


def test_seeds_have_a_mean_and_a_range(place: Path) -> None:
    runs = {"r3-unet": 0.9, "r3-unet-seed-1": 0.92, "r3-unet-seed-2": 0.97}
    page = run_results(
        place, *(write(place, made_up(name, {"accuracy": x}), f"{name}.json") for name, x in runs.items())
    )
    assert "| `r3-unet` | 3 | 0.9300 (0.9000 to 0.9700) |" in page
    assert "Other runs" not in page and "| `r3-unet-seed-2` | 0.9700 |" in page


def test_the_stages_of_a_model_are_told(place: Path) -> None:
    record = made_up("r1-two-stage", {"dsb_score": 0.4, "mask_map": 0.3})
    fits = made_up("a", {})["fit"], made_up("b", {}, epochs=9, interrupted=True)["fit"]
    record |= {"stages": {"detector": {"fit": fits[0]}, "segmenter": {"fit": fits[1]}}, "fit": None}
    length = "partial: detector partial (40 of 60 epochs), segmenter partial (9 of 20 epochs, interrupted)"
    page = run_results(place, write(place, record))
    assert row(page, "r1-two-stage")[3:] == [
        *("DSB score 0.400, mask mAP 0.300", length),
        "the rest of the training; DSB score 0.100 below; a start from ImageNet",
    ]
    assert row(page, "r1-two-stage", 1)[3:] == ["0.5", "0.4000", "0.3000"]
    assert f"- segmenter, trained: `{fits[1]['command']}`" in page
    assert how_trained(Run("a", None, {}, stages={"a": fits[0]})) == "full: a full (40 epochs)"


def as_claimed(system: System, fit: dict[str, Any]) -> bool:
    """Whether a row says ImageNet of a training that began there, and of no other; earlier records are silent."""
    begun = str(fit.get("initial_weights", ""))
    return not begun.startswith(("random", "imagenet")) or ("ImageNet" in system.beyond) == (begun == "imagenet")


def test_a_row_that_says_pretrained_was() -> None:
    claimed, plain = (REFERENCES.system(name) for name in ("stardist-flow", "nuclei-flow"))
    assert claimed and plain
    for begun, right in (("imagenet", (True, False)), ("random (pretrained: none)", (False, True)), ("", (True, True))):
        assert tuple(as_claimed(system, {"initial_weights": begun}) for system in (claimed, plain)) == right
    for path in sorted((ROOT / "results" / "records").glob("*.json")):
        if system := REFERENCES.system(path.stem):
            assert as_claimed(system, json.loads(path.read_text()).get("fit") or {}), path.name


def test_configs_queue_and_benchmarks_name_what_exists() -> None:
    for system in REFERENCES.systems:
        assert system.section in REFERENCES.sections
        assert system.data in REFERENCES.baselines or system.section == "Karyon"
        assert sum(system in REFERENCES.on(page) for page in REFERENCES.pages) == 1
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
        _, script, *_ = entry["command"].split()
        assert script == "-m" or (ROOT / script).is_file()


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
