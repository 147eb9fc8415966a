"""Slides, pyramids and OME-Zarr by `segment`: what is read, at which resolution, what is left out and said."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from large_files import write_aperio, write_pyramid
from PIL import Image
from segmented_images import counts, labels
from small_runs import Run

# Bright squares, of which each is 16 px wide, on dark: at half the size they are as wide as objects of 8 px.
SQUARES = np.kron(np.pad(np.indices((3, 5)).sum(0) % 2, 1), np.full((32, 32), 200)).astype(np.uint8)


def test_a_pyramid_gives_what_the_image_gives(segment: Run) -> None:
    write_pyramid(Path("a.tif"), SQUARES, metadata=None)
    tifffile.imwrite("b.tif", SQUARES, photometric="minisblack")
    assert segment("a.tif", "b.tif", "--formats", "labels", "objects", "overlays", "run_lengths", "geojson") == 0
    assert np.array_equal(labels("a.tif"), labels("b.tif"))
    one, other = (json.loads(Path(f"segmented/geojson/{name}.geojson").read_bytes()) for name in "ab")
    assert one == other
    tables: list[Any] = [line.split(",") for line in Path("segmented/objects.csv").read_text().splitlines()[1:]]
    assert [row[1:] for row in tables if row[0] == "a.tif"] == [row[1:] for row in tables if row[0] == "b.tif"]


def test_glass_is_left_out_and_the_picture_shows_it(segment: Run, capsys: pytest.CaptureFixture[str]) -> None:
    slide = np.full((320, 320, 3), 240, np.uint8)
    slide[32:96, 32:96] = (150, 90, 160)
    write_aperio(Path("a.svs"), slide)
    assert segment("a.svs", "--diameter", "none") == 0
    assert "a.svs: thumbnail (30 x 20 px), label (33 x 31 px), macro (55 x 35 px)" in capsys.readouterr().out
    shown = np.asarray(Image.open("segmented/looked_at/a.png"))
    assert shown.shape == slide.shape and (shown[60, 60] == slide[60, 60]).all() and (shown[300, 300] == 80).all()
    assert segment("a.svs", "--diameter", "24", "--out", "half") == 0
    assert np.asarray(Image.open("half/looked_at/a.png")).shape == (160, 160, 3)
    assert segment("a.svs", "--diameter", "none", "--everywhere", "--out", "all") == 0
    assert not Path("all/looked_at").exists() and counts("all") == counts()


def test_a_dry_run_says_levels_blocks_and_gigabytes(segment: Run, capsys: pytest.CaptureFixture[str]) -> None:
    write_aperio(Path("a.svs"), np.full((320, 320, 3), 99, np.uint8), levels=3)
    assert segment("a.svs", "--diameter", "24", "--dry-run", "--memory", "2G") == 0
    assert "a.svs: level 1 of 3, 160 x 160 px; 1 of 1 blocks; 0.6 GB" in capsys.readouterr().out
    assert not Path("segmented").exists()
    assert segment("a.svs", "--memory", "100M") == 2
    assert "0.1 GB of memory are too few: give --memory 0.7G" in capsys.readouterr().err


def test_the_level_of_the_models_scale_is_read(segment: Run) -> None:
    write_pyramid(Path("a.tif"), SQUARES, metadata=None)
    # Of 0.499 um by pixel, the model's objects of 12 px are 24 px of the file.
    formats = ("--formats", "labels", "geojson", "zarr", "parquet")
    assert segment("a.tif", "--pixel-size", "0.5", "--diameter", "12um", *formats) == 0
    assert labels("a.tif").shape == (SQUARES.shape[0] // 2, SQUARES.shape[1] // 2)
    features = json.loads(Path("segmented/geojson/a.geojson").read_bytes())["features"]
    polygons = [polygon for feature in features for polygon in feature["geometry"]["coordinates"]]
    assert max(column for polygon in polygons for ring in polygon for column, _ in ring) > SQUARES.shape[1] / 2
    assert Path("segmented/zarr/a.zarr/zarr.json").exists() and Path("segmented/objects.parquet").exists()
