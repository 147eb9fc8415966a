"""Models beside the classical baseline on annotated folders: figures that can be counted by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from bundles import write_bundle
from segmented_images import LABELS, SQUARES
from small_runs import Run

from cli.benchmark_page import doubt
from karyon.bundle import read_card, write_card


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """Two sets: the objects as they are, and a truth in which a second object more is hidden in the dark."""
    hidden = LABELS.copy()
    hidden[14:19, 3:10] = 3
    for name, truth in (("easy", LABELS), ("hidden", hidden)):
        for folder, array in (("images", SQUARES), ("labels", truth)):
            (tmp_path / "sets" / name / folder).mkdir(parents=True)
            tifffile.imwrite(tmp_path / "sets" / name / folder / "a.tif", array.astype(np.uint8))
    return tmp_path / "sets"


def test_figures_of_each_set_and_method_and_going_on(
    run: Run, sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(tmp_path / "tiny", onnx=True)
    command = "benchmark", sets, "--model", tmp_path / "tiny", "--out", "out"
    assert run(*command) == 0
    figures = json.loads(Path("out/benchmark.json").read_text())["sets"]
    assert set(figures) == {"easy", "hidden"} and set(figures["easy"]) == {"tiny", "classical"}
    assert figures["easy"]["tiny"]["dsb_score"] == 1
    # Two of three found at every threshold, none false.
    assert figures["hidden"]["tiny"]["dsb_score"] == pytest.approx(2 / 3)
    assert figures["hidden"]["tiny"]["tight"] == 2 and figures["hidden"]["tiny"]["missed"] == 1
    assert figures["hidden"]["tiny"]["count_error"] == 1
    assert "| `tiny` | 0.667 |" in Path("out/benchmark.md").read_text()
    assert Path("out/benchmark.png").stat().st_size > 10_000
    Path("out/easy/tiny/a.tif").unlink()
    capsys.readouterr()
    assert run(*command) == 0
    assert "1 segmented, 3 done before, 0 failed" in capsys.readouterr().out


def test_what_other_parameters_found_is_not_taken_for_done(run: Run, sets: Path, refusal: Callable[..., str]) -> None:
    """The same weights, tuned otherwise, are another method; `segment` compares them likewise."""
    write_bundle(Path("tiny"), onnx=True)
    command = {
        "benchmark": ("benchmark", sets, "--model", "./tiny", "--out", "out"),
        "segment": ("segment", sets / "easy" / "images", "--model", "tiny", "--out", "segmented"),
    }
    assert all(run(*words) == 0 for words in command.values())
    card = read_card(Path("tiny"))
    card.model["postprocessing"].setdefault("init_args", {})["min_area"] = 3
    write_card(Path("tiny"), card)
    assert "holds results of other options (model): choose another --out" in refusal(*command["benchmark"])
    assert "of other options (weights and parameters): choose another --out" in refusal(*command["segment"])


def test_doubt_is_counted_on_good_and_bad_images() -> None:
    each = {"confidence": [0.95, 0.9, 0.8, 0.7, 0.0], "scores": [0.8, 0.3, 0.6, 0.2, 0.0]}
    said = doubt({"a": {"sure": {"each": each, "doubt_below": 0.85}, "silent": {"each": each}, "none": {}}})
    assert "`sure`: `segment` calls 1 of the 3 images doubtful whose DSB score is not above 0.5, and 1 of the 2" in said
    # Five of the six pairs.
    assert said.count("on the good one in 83% of the pairs (2 good, 3 not)") == 2 and said.count("doubtful") == 1


def test_an_image_that_cannot_be_used_is_named_and_the_others_are_scored(
    run: Run, sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sets / "easy" / "images" / "b.tif").write_bytes(b"II*\0")
    assert run("benchmark", sets, "--sets", "easy", "--out", "out") == 1
    assert "b.tif" in capsys.readouterr().err
    assert json.loads(Path("out/benchmark.json").read_text())["sets"]["easy"]["classical"]["images"] == 1


def test_nothing_to_score(refusal: Callable[..., str], sets: Path) -> None:
    assert "holds no annotated set c: it holds easy, hidden" in refusal("benchmark", sets, "--sets", "c")
    assert "is not a folder" in refusal("benchmark", sets / "no")
    (sets / "empty").mkdir()
    assert "holds no annotated sets" in refusal("benchmark", sets / "empty")
