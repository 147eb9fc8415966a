import base64
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from config_files import ROOT
from PIL import Image
from report_pages import IMAGES, Page, leave_run, write_table

from cli.records import read_curves
from cli.report import interval, read_runs
from lightning_modules.callbacks.score_tables import IMAGE_COLUMNS

Run = Callable[..., int]
Small = Callable[[Path], list[object]]

QUICKSTART = ROOT / "configs" / "quickstart.yaml"
SECTIONS = ["runs", "learning", "results", "types", "thresholds", "images", "calibration", "costs", "provenance"]


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    return leave_run(tmp_path / "runs" / "made-up" / "version_0")


@pytest.fixture
def report(run: Run, tmp_path: Path) -> Callable[..., Page]:
    """Reports on runs, and reads the page: it loads nothing from elsewhere, and screen readers can use it."""

    def write(*args: object) -> Page:
        assert run("report", *args, "--results_dir", ROOT / "results") == 0
        page = Page(tmp_path / "report.html")
        check_access(page)
        return page

    return write


def check_access(page: Page) -> None:
    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in page.all():
        for key, value in element.attributes.items():
            if key in ("src", "href", "srcset", "data", "action"):
                assert value and value.startswith(("data:", "#")), (element.tag, key, value)
            assert not key.startswith("on")
            if key in ("href", "aria-labelledby") and value != "data:,":
                assert value is not None and value.removeprefix("#") in ids
    assert not page.all("script", "iframe", "object", "embed")
    assert "@import" not in page.all("style")[0].text and "url(" not in page.all("style")[0].text
    for picture in page.all("img"):
        assert len(picture.attributes["alt"] or "") > 20
        form, _, content = (picture.attributes["src"] or "").partition(";base64,")
        if form == "data:image/svg+xml":
            # In 12 pt at this width no type is smaller than 9 pt on A4 paper; longer names widen no figure.
            drawing = ElementTree.fromstring(base64.b64decode(content))
            assert float(drawing.attrib["width"].removesuffix("pt")) < 9.8 * 72
        else:
            Image.open(io.BytesIO(base64.b64decode(content))).load()
    for table in page.all("table"):
        header = table.all("thead")[0].all("th")
        assert table.all("caption")[0].words() and all(cell.attributes["scope"] == "col" for cell in header)
        assert {len(row) for row in table.rows()} == {len(header)}
    assert len(page.all("h1")) == 1 and page.all("html")[0].attributes["lang"] == "en"


def test_a_tested_run_is_reported_from_its_files_alone(
    run: Run, small: Small, report: Callable[..., Page], tmp_path: Path
) -> None:
    # At this threshold every pixel belongs to one object.
    assert run("fit", *small(QUICKSTART), "--model.init_args.postprocessing.init_args.threshold", 0.0) == 0
    folder = tmp_path / "runs" / "quickstart" / "version_0"
    shutil.rmtree(folder / "checkpoints")
    page = report("runs/quickstart")
    assert [section.attributes["id"] for section in page.all("section")] == SECTIONS
    record = json.loads((folder / "record.json").read_text())
    score = record["test"]["metrics"]["test/dsb_score"]
    ((_, model, data, *_, shown, _),) = page.table("runs").rows()
    assert (model, data, shown) == ("DenseSegmenter: UNet, Foreground", "Synthetic, data/synthetic", f"{score:.4f}")
    # What the test wrote of single images is what its record says of all of them.
    (means,) = page.table("thresholds").rows()
    assert means[-1] == f"{score:.3f}"
    assert len(page.section("images").all("img")) == len(page.table("images").rows()) == 3
    assert int(page.table("calibration").rows()[0][2]) == record["test"]["metrics"]["test/objects_found"] == 3
    (costs,) = page.table("costs").rows()
    assert f"{record['fit']['peak_memory_gib']:.2f}" in costs and "-" not in costs
    for stage in ("fit", "test"):
        assert record[stage]["command"] in page.section("provenance").text


def test_scores_follow_from_what_was_recorded(report: Callable[..., Page], made_up: Path) -> None:
    page = report(made_up)
    # (1 + 1/3 + 0) / 3 at every threshold. One draw of three images in 27 holds nothing but zeros, another nothing but
    # ones, more than a fortieth.
    assert page.table("thresholds").rows() == [["made-up", *["0.444"] * 11]]
    assert page.table("runs").rows()[0][-2:] == ["0.4444", "0.000 to 1.000"]
    captions = [caption.words() for caption in page.section("images").all("figcaption")]
    assert captions == [
        "Best: DSB score 1.000, 1 of 3. fluorescence, 64 x 80 px, 2 objects, 2 predicted. all right",
        "Median: DSB score 0.333, 2 of 3. fluorescence, 64 x 64 px, 2 objects, 2 predicted. one right",
        "Worst: DSB score 0.000, 3 of 3. purple-on-white, 32 x 32 px, 1 object, 0 predicted. none found",
    ]
    # Mean score .575 against three of four right, by Wilson's formula between .301 and .954; each object is a group:
    # .1 + .2 + .6 + .2 over four.
    calibrated = ["made-up", "underconfident", "4", "0.575", "0.750", "0.301 to 0.954", "0.275"]
    assert page.table("calibration").rows() == [calibrated]
    assert "0.4321 at step 199" in page.section("learning").all("figcaption")[1].words()
    assert page.table("costs").rows() == [
        ["made-up", "CPU, 2 cores", "8,700", "1 h 12 min", "2.00", "-", "1.50", "2.25"]
    ]
    types = {row[0]: row[1:6] for row in page.table("types").rows()}
    assert types == {
        "fluorescence": ["made-up", "2", "4", "0.6667", "0.333 to 1.000"],
        "purple-on-white": ["made-up", "1", "1", "0.0000", "-"],
    }


def test_the_confidence_interval_is_that_of_a_mean() -> None:
    scores = np.random.default_rng(0).normal(0.5, 0.1, 400)
    low, high = map(float, interval(scores).split(" to "))
    # 1.96 standard errors to either side.
    error = 1.96 * scores.std() / 20
    assert (low, high) == pytest.approx((scores.mean() - error, scores.mean() + error), abs=0.002)


def test_published_scores_stand_beside_ours(run: Run, report: Callable[..., Page], made_up: Path) -> None:
    page = report(made_up)
    assert [heading.words() for heading in page.section("results").all("h3")] == ["DSB2018"]
    beside = page.table("results", "Beside published")
    assert [cell.words() for cell in beside.all("thead")[0].all("th")] == ["system", "source", "DSB score", "accuracy"]
    found = beside.rows()
    assert found[0] == ["made-up", "this report", "0.4444", "0.9000"]
    # R1 is among the public scores and not listed a second time.
    assert [row[0] for row in found if row[2] == "0.5"] == ["two stages (R1)"]
    assert ["Mask R-CNN", "Wang & Song, four models and an FCN", "-", "0.992"] in found
    assert ["background everywhere", "baseline: one class for every pixel", "-", "0.844"] in found
    # Without the file there is a sentence, and all else is there.
    assert run("report", made_up, "--results_dir", "nowhere", "--out", "new/page.html") == 0
    results = Page(Path("new/page.html")).section("results").words()
    assert "The published scores are not at hand" in results and "0.4444" in results


def test_the_best_of_several_runs_is_set_off_and_a_lower_error_is_better(
    report: Callable[..., Page], tmp_path: Path
) -> None:
    good = leave_run(tmp_path / "runs" / "good" / "version_3", {"test/dsb_score": 0.6, "test/count_error": 2.0})
    poor = leave_run(tmp_path / "runs" / "poor" / "version_0", {"test/dsb_score": 0.5, "test/count_error": 3.0})
    # The first as the newest version of its run.
    page = report(good.parent, poor, good, "--title", "Two & three")
    assert page.all("h1")[0].words() == page.all("title")[0].words() == "Two & three"
    measured = page.table("results", "Measured")
    assert [cell.words() for cell in measured.all("thead")[0].all("th")] == ["metric", "good", "poor"]
    # The accuracies are equal, so both are the best.
    assert [cell.words() for cell in measured.all("strong")] == ["0.6000", "2.00", "0.9000", "0.9000"]
    assert ["count error", "2.00", "3.00"] in measured.rows()


def test_names_are_text_and_never_markup(report: Callable[..., Page], tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "runs" / '<b>&"x$_' / "version_0", command="python -m cli test --name '<script>'")
    evil = '<img src=x onerror="alert(1)">'
    write_table(folder / "image_scores.csv", IMAGE_COLUMNS, [[evil, "<i>type</i>", *IMAGES[0][2:]]])
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text() + "name: </pre><script>\n")
    page = report(folder)
    assert not page.all("b", "i")
    assert page.all("h1")[0].words() == 'Report on <b>&"x$_'
    assert page.table("images").rows()[0][:2] == [evil, "<i>type</i>"]
    assert "</pre><script>" in page.section("provenance").all("pre")[0].text


def test_a_run_says_what_it_has_not_recorded(report: Callable[..., Page], made_up: Path, tmp_path: Path) -> None:
    old = leave_run(tmp_path / "runs" / "old" / "version_0")
    for path in (old / "image_scores.csv", old / "object_scores.csv"):
        path.unlink()
    begun = tmp_path / "runs" / "begun" / "version_0"
    begun.mkdir(parents=True)
    shutil.copy(made_up / "config.yaml", begun)
    undrawn = leave_run(tmp_path / "runs" / "undrawn" / "version_0")
    shutil.rmtree(undrawn / "overlays")
    page = report(made_up, old, begun, undrawn)
    words = page.section("runs").words()
    assert "old: the test left no scores of single images. python -m cli test writes them" in words
    assert "begun: not tested yet." in words and "made-up: " not in words
    assert "begun: no curve of a training was recorded." in page.section("learning").words()
    assert "undrawn The test has drawn no images." in page.section("images").words()
    assert "holds no record: the training has not ended." in page.section("provenance").words()
    # Nothing but a run that has begun.
    assert [section.attributes["id"] for section in report(begun).all("section")] == SECTIONS


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("image_scores.csv", "image,type\nx,y\n", "cannot be read as a table of a run"),
        ("image_scores.csv", "\xff\x00", "cannot be read as a table of a run"),
        ("object_scores.csv", "image,id,score,iou\nx,1,high,1\n", "cannot be read as a table of a run"),
        ("object_scores.csv", "image,id,score,iou\nx,1\n", "cannot be read as a table of a run"),
        ("metrics.csv", "step,train/loss_step\nx,1\n", "cannot be read as a table of a run"),
        ("record.json", "{", "is not a record of a run"),
        ("record.json", '{"test": {"command": ""}}', "lacks test.date"),
        ("config.yaml", "a: [", "is not a config of a run"),
        ("overlays/0.000-none found.png", "no picture", "is not a readable picture"),
    ],
)
def test_damaged_files_are_named(
    file: str, content: str, sentence: str, run: Run, made_up: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (made_up / file).write_bytes(content.encode("latin-1"))
    assert run("report", made_up) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert str(made_up / file) in message and sentence in message


def test_what_is_no_run_is_refused_and_nothing_is_written(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in ("nowhere", "."):
        assert run("report", path) == 2
        assert f"{path} holds no run" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_curves_of_a_resumed_run_are_joined_without_what_was_done_again(tmp_path: Path) -> None:
    columns = ["step", "train/loss_step"]
    # The second part went on from step 20, the third from 30.
    write_table(tmp_path / "metrics-before-resume.csv", columns, [[9, 5], [19, 4], [29, 3.5]])
    write_table(tmp_path / "metrics-before-resume-2.csv", columns, [[24, 3], [29, 2], [39, ""], [49, 1.5]])
    write_table(tmp_path / "metrics.csv", columns, [[34, 1]])
    assert read_curves(tmp_path) == {"train/loss_step": ([9, 19, 24, 29, 34], [5, 4, 3, 2, 1])}
    assert read_curves(tmp_path / "nowhere") == {}


def test_the_newest_test_counts_and_one_that_wrote_elsewhere_finds_its_training(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "runs" / "a" / "version_0")
    (folder / "checkpoints").mkdir()
    newer = {"date": "2026-03-04T00:00:00+00:00", "checkpoint": str(folder / "checkpoints" / "best.ckpt")}
    tested = leave_run(folder / "test", {"test/dsb_score": 0.7}, **newer)
    (run,) = read_runs([folder])
    assert run.tested is not None and run.tested.metric("dsb_score") == 0.7
    assert run.evaluated == tested
    elsewhere = leave_run(tmp_path / "tuned", {"test/dsb_score": 0.8}, **newer)
    write_table(elsewhere / "metrics.csv", ["step", "test/dsb_score"], [[0, 0.8]])
    runs = read_runs([folder, elsewhere])
    assert [run.label for run in runs] == ["a", "tuned"]
    assert runs[1].curves == runs[0].curves != {}


def test_labels_tell_runs_apart(tmp_path: Path) -> None:
    paths = ["x/a/version_0", "y/a/version_0", "y/a/version_1"]
    folders = [leave_run(tmp_path / path) for path in paths]
    assert [run.label for run in read_runs(folders[:2])] == ["x/a", "y/a"]
    assert [run.label for run in read_runs(folders[1:])] == ["a/version_0", "a/version_1"]
    assert len({run.label for run in read_runs(folders)}) == 3
