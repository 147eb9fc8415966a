"""A folder of images segmented by jobs side by side gives what one job gives, whatever happens to some of them."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from bundles import write_bundle
from small_runs import Run

from karyon.commands.shards import WHOLE, Shard

FORMATS = ("--formats", "labels", "objects", "run_lengths", "coco")


@pytest.fixture
def segment(run: Run, tmp_path: Path) -> Run:
    write_bundle(tmp_path / "bundle")
    image = np.zeros((20, 30), np.uint8)
    image[3:9, 4:10] = image[10:18, 15:28] = 200
    (tmp_path / "in" / "b").mkdir(parents=True)
    for name in ("a.png", "b/1.png", "b/2.png", "c.png", "d.png"):
        cv2.imwrite(str(tmp_path / "in" / name), np.roll(image, len(name)))
    tifffile.imwrite(tmp_path / "in" / "pages.tif", np.stack([image, image[::-1]]))
    return lambda *args: run("segment", "in", "--model", tmp_path / "bundle", "--device", "cpu", *FORMATS, *args)


def table(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    return [header, *sorted(rows)]


def results(folder: str) -> dict[str, object]:
    labels = {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).glob("labels/**/*.tif")}
    return labels | {path.name: table(path) for path in Path(folder).glob("*.csv*")}


def test_shards_and_what_joins_them_give_what_one_job_gives(segment: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert segment("--out", "whole") == 0
    for number in (2, 1, 3):
        assert segment("--out", "parts", "--shard", f"{number}/3") == 0
    assert not (Path("parts") / "coco.json").exists()
    capsys.readouterr()
    assert segment("--out", "parts") == 0
    assert "0 segmented, 6 done before, 0 failed" in capsys.readouterr().out
    assert results("parts") == results("whole")
    assert (Path("parts") / "coco.json").exists()


@pytest.mark.parametrize("shard", [(), ("--shard", "1/2")])
def test_two_jobs_that_do_not_share_do_not_mix(
    segment: Run, shard: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("karyon.commands.shards.PATIENCE", 0.05)
    with WHOLE.at_work(Path("out")):
        assert segment("--out", "out", *shard) == 2
    assert "error: out is being written by another segment: wait for its end" in capsys.readouterr().err
    assert segment("--out", "out") == 0


def test_a_shard_that_died_is_gone_on_with_or_made_up_for(segment: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert segment("--out", "whole") == 0
    assert segment("--out", "parts", "--shard", "1/2") == 0
    # As if it had been killed while it wrote its last image.
    for name in ("counts", "objects"):
        part = Path("parts") / f"{name}.csv.part1of2"
        part.write_text("\n".join(part.read_text().splitlines()[: 3 if name == "counts" else -1]) + "\nb/2.p")
    capsys.readouterr()
    assert segment("--out", "parts", "--shard", "1/2") == 0
    assert "1 segmented, 2 done before" in capsys.readouterr().out
    assert segment("--out", "parts") == 0
    assert "3 segmented, 3 done before" in capsys.readouterr().out
    assert results("parts") == results("whole")


def test_shards_go_on_after_one_job_that_died(segment: Run) -> None:
    assert segment("--out", "whole") == 0
    assert segment("--out", "parts") == 0
    counts = Path("parts") / "counts.csv"
    # As if it had been killed in the middle of a row.
    counts.write_text("\n".join(counts.read_text().splitlines()[:3]) + "\nb/2.p")
    for number in (1, 2):
        assert segment("--out", "parts", "--shard", f"{number}/2") == 0
    assert segment("--out", "parts") == 0
    assert results("parts") == results("whole")


def test_other_options_and_overwriting_are_refused(segment: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert segment("--shard", "1/2") == 0
    assert segment("--shard", "2/2", "--diameter", 9) == 2
    assert "holds results of other options (diameter)" in capsys.readouterr().err
    assert segment("--shard", "2/2", "--overwrite") == 2
    assert "remove the folder of --out" in capsys.readouterr().err
    assert segment("--overwrite") == 0
    assert not list(Path("segmented").glob("*.part*"))


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3"])
def test_shards_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        Shard.parse(text)


def test_every_image_is_in_one_shard() -> None:
    images = {str(k): Path(str(k)) for k in range(11)}
    shards = [list(Shard(number, 4).of(images)) for number in range(1, 5)]
    assert sorted(name for shard in shards for name in shard) == sorted(images)
    assert {len(shard) for shard in shards} == {2, 3}
