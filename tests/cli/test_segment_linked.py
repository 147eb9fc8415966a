"""`segment --link` gives 3-D objects and tracks: label images of the stack's shape, and tables."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from segmented_images import SQUARES, counts
from small_runs import Run

from karyon.model import Model

UM = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}


def linked(name: str, out: str = "segmented") -> np.ndarray:
    return tifffile.imread(Path(out) / "linked" / name)


def table(name: str, out: str = "segmented") -> list[dict[str, str]]:
    with (Path(out) / name).open(newline="") as file:
        return list(csv.DictReader(file))


def square(y: int, x: int, side: int = 6) -> np.ndarray:
    image = np.zeros((40, 40), np.uint8)
    image[y : y + side, x : x + side] = 200
    return image


def write(name: str, stack: np.ndarray, axes: str, **metadata: object) -> None:
    Path("in").mkdir(exist_ok=True)
    tifffile.imwrite(f"in/{name}", stack, ome=True, metadata={"axes": axes, **metadata})


# A square that is missing in the third plane or frame, and one that comes in the second.
STACK = np.stack([square(4, 4 + k) * (k != 2) | square(28, 20) * (k > 0) for k in range(5)])
IDS = np.where(STACK > 0, np.where(np.arange(40)[:, None] < 20, 1, 2), 0)


def test_planes_become_objects_with_volumes(segment: Run) -> None:
    write("z.ome.tif", STACK, "ZYX", **UM, PhysicalSizeZ=2000.0, PhysicalSizeZUnit="nm")
    tifffile.imwrite("in/pages.tif", STACK, photometric="minisblack", metadata=None)
    assert segment("in", "--link", "z", "--diameter", "none") == 0
    for name in ("z.ome.tif", "pages.tif"):
        assert (linked(name) == IDS).all() and linked(name).dtype == np.uint16
    plain, sized = table("volumes.csv")[::2]
    assert {key: plain[key] for key in ("image", "object", "z_begin", "z_end", "volume", "volume_um3")} == {
        "image": "pages.tif",
        "object": "1",
        "z_begin": "0",
        "z_end": "4",
        "volume": "144",
        "volume_um3": "",
    }
    assert (sized["volume_um3"], sized["centroid_z"], sized["centroid_z_um"]) == ("72", "2.0", "4")
    assert len(table("links.csv")) == 16 and table("links.csv")[1] == {"image": "pages.tif/2", "id": "1", "object": "1"}


def test_frames_become_tracks_and_the_file_of_the_challenge(
    segment: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write("t.ome.tif", STACK, "TYX", **UM)
    assert segment("in", "--diameter", "none") == 0
    # Later, without segmenting again.
    monkeypatch.delattr(Model, "answer")
    assert segment("in", "--diameter", "none", "--link", "t", "--link-distance", "4um") == 0
    assert "3 tracks (up to 8 px a frame)" in capsys.readouterr().out
    assert (linked("t.ome.tif") == np.where(IDS * (np.arange(5) > 2)[:, None, None] == 1, 3, IDS)).all()
    assert Path("segmented/linked/t.ome.res_track.txt").read_text() == "1 0 1 0\n2 1 4 0\n3 3 4 1\n"
    first, second, third = table("tracks.csv")
    assert (third["parent"], third["ancestor"], third["path"], third["path_um"]) == ("1", "1", "1.0", "0.5")
    assert (first["mean_size"], second["mean_size_um"]) == ("36.0", "9")
    assert segment("in", "--diameter", "none", "--link", "t", "--link-distance", "4um") == 0
    assert "1 done before" in capsys.readouterr().out
    assert segment("in", "--diameter", "none", "--link", "t") == 2
    assert "linked holds results of other options (link_distance): remove that folder" in capsys.readouterr().err
    shutil.rmtree("segmented/linked")
    assert segment("in", "--diameter", "none", "--link", "t", "--link-gap", 0) == 0
    assert [row["parent"] for row in table("tracks.csv")] == ["0"] * 3


def test_frames_of_planes_become_tracks_of_3d_objects(segment: Run) -> None:
    stack = np.stack([np.roll(STACK[[0, 1, 1]], 2 * t, axis=2) for t in range(2)])
    write("tz.ome.tif", stack, "TZYX")
    write("zt.ome.tif", stack.swapaxes(0, 1), "ZTYX")
    assert segment("in", "--link", "zt", "--diameter", "none") == 0
    true = np.where(stack > 0, np.where(np.arange(40)[:, None] < 20, 1, 2), 0)
    assert (linked("tz.ome.tif") == true).all() and (linked("zt.ome.tif") == true.swapaxes(0, 1)).all()
    assert [(row["object"], row["t"]) for row in table("volumes.csv")[:4]] == [
        ("1", "0"),
        ("2", "0"),
        ("1", "1"),
        ("2", "1"),
    ]
    assert segment("in", "--link", "z", "--diameter", "none", "--out", "each") == 0
    assert linked("tz.ome.tif", "each").max() == 4


def test_what_is_no_such_stack_is_refused_before_it_is_segmented(
    segment: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    write("one.tif", SQUARES, "YX")
    write("z.tif", STACK, "ZYX")
    write("tz.tif", STACK[:4].reshape(2, 2, 40, 40), "TZYX")
    write("t.tif", STACK, "TYX")
    assert segment("in", "--link", "t") == 1
    said = capsys.readouterr().err
    assert "one.tif: is a single image: --link t needs a stack, as a file." in said
    assert "z.tif: is a stack in depth, not in time: choose another --link" in said
    assert "tz.tif: is a stack in time and depth: link its planes, too (--link zt)." in said
    assert {name.split("/")[0] for name in counts()} == {"t.tif"}
    assert segment("in", "--link", "t", "--formats", "objects", "--overwrite") == 2
    assert "--link makes its objects of label images: name labels among --formats." in capsys.readouterr().err
    assert segment("in/one.tif", "--out", "one") == 0 and segment("in/one.tif", "--out", "one", "--link", "z") == 1
    assert segment("in/t.tif", "--link", "t", "--link-distance", "4um", "--out", "um") == 1 and not counts("um")
    assert "give --link-distance in px" in capsys.readouterr().err
