import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from config_files import ROOT
from report_pages import IMAGES, Element, Page, leave_run, rows, write_table

from cli.report_runs import read_curves, read_runs
from lightning_modules.callbacks.score_tables import IMAGE_COLUMNS

Run = Callable[..., int]
Small = Callable[[Path], list[object]]

QUICKSTART = ROOT / "configs" / "quickstart.yaml"
SECTIONS = ["runs", "learning", "results", "types", "thresholds", "images", "calibration", "costs", "provenance"]


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    return leave_run(tmp_path / "runs" / "made-up" / "version_0")


def table(section: Element, caption: str) -> Element:
    return next(table for table in section.all("table") if table.all("caption")[0].words().startswith(caption))


def check_access(page: Page) -> None:
    """What a screen reader and a printed page need, and that nothing is loaded from elsewhere."""
    ids = [element.attributes["id"] for element in page.everything() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in page.everything():
        for key, value in element.attributes.items():
            if key in ("src", "href", "xlink:href", "srcset", "data", "action"):
                assert value and value.startswith(("data:", "#")), (element.tag, key, value)
            assert "url(http" not in (value or "") and not key.startswith("on")
            if key in ("href", "aria-labelledby") and value != "data:,":
                assert value is not None and value.removeprefix("#") in ids
    assert not [element for element in page.everything() if element.tag in ("script", "iframe", "object", "embed")]
    assert "@import" not in page.all("style")[0].text and "url(" not in page.all("style")[0].text
    for picture in page.all("img"):
        assert picture.attributes["alt"]
    for drawing in page.all("svg"):
        assert drawing.attributes["role"] == "img" and len(drawing.attributes["aria-label"] or "") > 20
    for each in page.all("table"):
        assert each.all("caption")[0].words()
        assert all(cell.attributes["scope"] == "col" for cell in each.all("thead")[0].all("th"))
        width = len(each.all("thead")[0].all("th"))
        assert {len(row) for row in rows(each)} == {width}
    levels = [
        int(element.tag[1]) for element in page.section("runs").everything() if re.fullmatch("h[1-6]", element.tag)
    ]
    assert levels == [2] and len(page.all("h1")) == 1
    assert page.all("html")[0].attributes["lang"] == "en"


def test_a_tested_run_is_reported_from_its_files_alone(run: Run, small: Small, tmp_path: Path) -> None:
    # At this threshold every pixel belongs to one object.
    assert run("fit", *small(QUICKSTART), "--model.init_args.decoder.init_args.threshold", 0.0) == 0
    folder = tmp_path / "runs" / "quickstart" / "version_0"
    shutil.rmtree(folder / "checkpoints")
    assert run("report", "runs/quickstart", "--results_dir", ROOT / "results") == 0
    page = Page(tmp_path / "report.html")
    check_access(page)
    assert [section.attributes["id"] for section in page.all("section")] == SECTIONS
    record = json.loads((folder / "record.json").read_text())
    score = record["test"]["metrics"]["test/dsb_score"]
    ((_, model, data, *_, shown),) = rows(page.section("runs").all("table")[0])
    assert (model, data, shown) == (
        "DenseSegmenter: UNet, Foreground",
        "Synthetic, data/synthetic",
        f"{score:.4f}",
    )
    # What the test wrote of single images is what its record says of all of them.
    (means,) = rows(page.section("thresholds").all("table")[0])
    assert means[-1] == f"{score:.3f}"
    assert len(page.section("images").all("img")) == 3
    (images,) = page.section("images").all("table")
    assert len(rows(images)) == 3
    (calibration,) = rows(page.section("calibration").all("table")[0])
    assert int(calibration[2]) == record["test"]["metrics"]["test/objects_found"] == 3
    (costs,) = rows(page.section("costs").all("table")[0])
    assert f"{record['fit']['peak_memory_gib']:.2f}" in costs and "-" not in costs
    for stage in ("fit", "test"):
        assert record[stage]["command"] in page.section("provenance").text


def test_figures_follow_from_what_was_recorded(run: Run, made_up: Path, tmp_path: Path) -> None:
    assert run("report", made_up, "--out", "new/page.html", "--results_dir", ROOT / "results") == 0
    page = Page(tmp_path / "new" / "page.html")
    check_access(page)
    # (1 + 1/3 + 0) / 3 at every threshold.
    assert rows(page.section("thresholds").all("table")[0]) == [["made-up", *["0.444"] * 11]]
    pictures = [(image.attributes["alt"], image.attributes["src"]) for image in page.section("images").all("img")]
    assert [alt.split()[0] for alt, _ in pictures if alt] == ["Best", "Median", "Worst"]
    captions = [caption.words() for caption in page.section("images").all("figcaption")]
    assert captions[0].startswith(
        "Best: DSB score 1.000, 1 of 3. fluorescence, 64 x 80 px, 2 objects, 2 found. all right"
    )
    assert captions[1].startswith("Median: DSB score 0.333, 2 of 3.") and "one right" in captions[1]
    assert captions[2].startswith("Worst: DSB score 0.000, 3 of 3.") and "none found" in captions[2]
    # Mean score .575 against three of four right; each object is a group: .1 + .2 + .6 + .2 over four.
    assert rows(page.section("calibration").all("table")[0]) == [
        ["made-up", "not sure enough", "4", "0.575", "0.750", "0.275"]
    ]
    assert "0.4321 at step 199" in page.section("learning").all("figcaption")[1].words()
    assert rows(page.section("costs").all("table")[0]) == [
        ["made-up", "CPU, 2 cores", "8,700", "1 h 12 min", "2.00", "-", "1.50", "2.25"]
    ]
    kinds = {row[0]: row[1:5] for row in rows(page.section("types").all("table")[0])}
    assert kinds == {
        "fluorescence": ["made-up", "2", "4", "0.6667"],
        "purple-on-white": ["made-up", "1", "1", "0.0000"],
    }


def test_published_figures_stand_beside_ours(run: Run, made_up: Path, tmp_path: Path) -> None:
    assert run("report", made_up, "--results_dir", ROOT / "results") == 0
    results = Page(tmp_path / "report.html").section("results")
    assert [heading.words() for heading in results.all("h3")] == ["DSB2018"]
    beside = table(results, "Beside published figures")
    header = [cell.words() for cell in beside.all("thead")[0].all("th")]
    assert header == ["system", "source", "DSB score", "accuracy"]
    found = rows(beside)
    assert found[0] == ["made-up", "this report", "0.4444", "0.9000"]
    # R1 is among the public figures and not listed a second time.
    assert [row[0] for row in found if row[2] == "0.5"] == ["two stages (R1)"]
    assert ["Mask R-CNN", "Wang & Song, four models and an FCN", "-", "0.992"] in found
    assert ["background everywhere", "baseline: one class for every pixel", "-", "0.844"] in found
    # Without the file there is a sentence, and all else is there.
    assert run("report", made_up, "--results_dir", "nowhere") == 0
    results = Page(tmp_path / "report.html").section("results")
    assert "The published figures are not at hand" in results.words()
    assert "0.4444" in results.words()


def test_the_best_of_several_runs_is_set_off_and_a_lower_error_is_better(run: Run, tmp_path: Path) -> None:
    good = leave_run(tmp_path / "runs" / "good" / "version_3", {"test/dsb_score": 0.6, "test/count_error": 2.0})
    poor = leave_run(tmp_path / "runs" / "poor" / "version_0", {"test/dsb_score": 0.5, "test/count_error": 3.0})
    # The first as the newest version of its run.
    assert run("report", good.parent, poor, good, "--title", "Two & three") == 0
    page = Page(tmp_path / "report.html")
    check_access(page)
    assert page.all("h1")[0].words() == page.all("title")[0].words() == "Two & three"
    measured = table(page.section("results"), "Measured")
    assert [cell.words() for cell in measured.all("thead")[0].all("th")] == ["figure", "good", "poor"]
    # The accuracies are equal, so both are the best.
    assert [cell.words() for cell in measured.all("strong")] == ["0.6000", "2.00", "0.9000", "0.9000"]
    assert ["count error", "2.00", "3.00"] in rows(measured)


def test_names_are_text_and_never_markup(run: Run, tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "runs" / '<b>&"x$_' / "version_0", command="python -m cli test --name '<script>'")
    evil = '<img src=x onerror="alert(1)">'
    write_table(folder / "image_scores.csv", IMAGE_COLUMNS, [[evil, "<i>kind</i>", *IMAGES[0][2:]]])
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text() + "name: </pre><script>\n")
    assert run("report", folder) == 0
    page = Page(tmp_path / "report.html")
    check_access(page)
    assert not page.all("b") and not page.all("i")
    assert page.all("h1")[0].words() == 'Report on <b>&"x$_'
    assert rows(page.section("images").all("table")[0])[0][:2] == [evil, "<i>kind</i>"]
    assert "</pre><script>" in page.section("provenance").all("pre")[0].text


def test_a_run_says_what_it_has_not_recorded(run: Run, made_up: Path, tmp_path: Path) -> None:
    old = leave_run(tmp_path / "runs" / "old" / "version_0")
    for path in (old / "image_scores.csv", old / "object_scores.csv"):
        path.unlink()
    record = json.loads((old / "record.json").read_text())
    for section in record.values():
        del section["peak_memory_gib"]
    (old / "record.json").write_text(json.dumps(record))
    begun = tmp_path / "runs" / "begun" / "version_0"
    begun.mkdir(parents=True)
    shutil.copy(made_up / "config.yaml", begun)
    undrawn = leave_run(tmp_path / "runs" / "undrawn" / "version_0")
    shutil.rmtree(undrawn / "overlays")
    assert run("report", made_up, old, begun, undrawn) == 0
    page = Page(tmp_path / "report.html")
    check_access(page)
    for section in ("types", "thresholds", "images", "calibration"):
        words = page.section(section).words()
        assert "old: the test left no scores of single images. python -m cli test writes them" in words
        assert "begun: not tested yet." in words
        assert "made-up: the test" not in words
    assert "begun: no curve of a training was recorded." in page.section("learning").words()
    assert "undrawn: the test has drawn no images." in page.section("images").words()
    assert "old: peak memory was not recorded." in page.section("costs").words()
    assert "holds no record: the training has not ended." in page.section("provenance").words()


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("image_scores.csv", "image,type\nx,y\n", "cannot be read as a table of a run"),
        ("image_scores.csv", "\xff\x00", "cannot be read as a table of a run"),
        ("object_scores.csv", "image,id,score,iou\nx,1,high,1\n", "cannot be read as a table of a run"),
        ("object_scores.csv", "image,id,score,iou\nx,1\n", "cannot be read as a table of a run"),
        ("metrics.csv", "step,train/loss_step\nx,1\n", "cannot be read as a table of a run"),
        ("record.json", "{", "is no record of a run"),
        ("record.json", '{"test": {"command": ""}}', "lacks test.date"),
        ("config.yaml", "a: [", "is no config of a run"),
        ("overlays/0.000-none found.png", "no picture", "is no readable picture"),
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


PROBE = """
<script>
addEventListener("load", () => {
  const inside = (box, text) => text.left >= box.left - 2 && text.right <= box.right + 2;
  const drawings = [...document.querySelectorAll("svg")];
  document.documentElement.dataset.probe = JSON.stringify({
    images: [...document.images].map(image => image.complete && image.naturalWidth > 0),
    drawings: drawings.map(svg => svg.getBoundingClientRect().height > 60),
    cut: drawings.flatMap(svg => [...svg.querySelectorAll("text")].filter(
      text => !inside(svg.getBoundingClientRect(), text.getBoundingClientRect())).map(text => text.textContent)),
    fits: document.documentElement.scrollWidth <= innerWidth,
    requests: performance.getEntriesByType("resource").filter(entry => !entry.name.startsWith("data:")).length,
  });
});
</script>
</body>"""


def browse(path: Path, width: int) -> tuple[dict[str, object], list[str]]:
    """What a headless Chromium says of a page: what the probe has found, and the messages of its console."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--window-size={width},900"]
    options += [f"--user-data-dir={path.parent / 'profile'}", "--dump-dom", path.as_uri()]
    ended = subprocess.run([chromium, *options], capture_output=True, text=True, timeout=300, check=True)
    probe = re.search('data-probe="([^"]*)"', ended.stdout)
    return json.loads(html.unescape(probe[1])) if probe else {}, [
        line for line in ended.stderr.splitlines() if "CONSOLE" in line
    ]


def test_chromium_shows_the_page_without_a_complaint(run: Run, made_up: Path, tmp_path: Path) -> None:
    others = [leave_run(tmp_path / "runs" / f"another-run-with-a-long-name-{k}" / "version_0") for k in range(3)]
    assert run("report", made_up, *others, "--results_dir", ROOT / "results") == 0
    page = tmp_path / "report.html"
    assert browse(page, 1200) == ({}, [])
    probed = tmp_path / "probed.html"
    # The page allows no script.
    text = re.sub("<meta http-equiv[^>]*>", "", page.read_text(encoding="utf-8")).replace("</body>", PROBE)
    probed.write_text(text, encoding="utf-8")
    for width in (1200, 520):
        found, messages = browse(probed, width)
        assert messages == []
        assert found == {"images": [True] * 12, "drawings": [True] * 7, "cut": [], "fits": True, "requests": 0}
    # What is wrong would be seen.
    wrong = '<img src="data:image/png;base64,AAAA"><script>console.error("wrong")</script></main>'
    probed.write_text(text.replace("</main>", wrong), encoding="utf-8")
    found, messages = browse(probed, 1200)
    assert found["images"] == [*[True] * 12, False]
    assert len(messages) == 1 and "wrong" in messages[0]
