"""Each format says exactly what the label image says, to the library that the format belongs to."""

import contextlib
import csv
import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pyarrow.parquet
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools.coco import COCO
from roifile import ImagejRoi, roiread
from scipy import ndimage
from shapely import Point
from shapely.geometry import shape

from karyon.instances import Instances, Prediction
from karyon.io import encoding, tables
from karyon.io.outlines import outlines
from karyon.io.reading import open_image
from karyon.io.results_folder import ResultFolder
from karyon.io.whole_files import whole
from karyon.labels import decode_run_lengths, relabel
from karyon.planes import PixelSize, Plane, plane_of

# Few ids on few pixels: objects touch each other and the border, have holes and several parts, meet at corners.
LABELS = arrays(np.int64, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3)).map(relabel)
RING = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1]])


def prediction(labels, name="image", plane=None, pixel_size=None):
    instances = Instances.from_labels(labels, 1 / np.arange(2.0, labels.max() + 2))
    return Prediction(name, labels.shape, None, instances, plane or Plane(), pixel_size)


def fill(rings, size):
    """The pixels that an odd number of rings surrounds: each upright edge turns all pixels to its right around."""
    turned = np.zeros((size[0], size[1] + 1), bool)
    for ring in rings:
        for (x, y), (next_x, next_y) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            assert x == next_x or y == next_y
            if x == next_x:
                turned[min(y, next_y) : max(y, next_y), x] ^= True
    return np.logical_xor.accumulate(turned, axis=1)[:, :-1]


@given(LABELS)
def test_outlines_hold_the_pixels_and_part_what_no_edge_joins(labels):
    found = outlines(labels)
    assert len(found) == labels.max()
    for number, polygons in enumerate(found, start=1):
        mask = labels == number
        parts = [fill(polygon, labels.shape) for polygon in polygons]
        assert (np.sum(parts, axis=0) == mask).all()
        assert len(parts) == ndimage.label(mask)[1]
        # The first ring alone surrounds the part and its holes.
        for part, polygon in zip(parts, polygons, strict=True):
            assert (fill(polygon[:1], labels.shape) == ndimage.binary_fill_holes(part)).all()


def test_a_ring_that_meets_itself_is_cut_into_an_outline_and_a_hole():
    [[polygon]] = outlines(RING)
    assert [ring.tolist() for ring in polygon] == [
        [[1, 0], [3, 0], [3, 3], [0, 3], [0, 1], [1, 1]],
        [[1, 1], [1, 2], [2, 2], [2, 1]],
    ]


@given(LABELS)
@settings(max_examples=50)
def test_geojson_is_valid_and_covers_the_pixels(labels):
    content = json.loads(encoding.geojson(prediction(labels)))
    assert [feature["properties"]["name"] for feature in content["features"]] == [
        str(number) for number in range(1, labels.max() + 1)
    ]
    for number, feature in enumerate(content["features"], start=1):
        geometry = shape(feature["geometry"])
        assert geometry.is_valid and geometry.area == np.count_nonzero(labels == number)
        for y, x in np.ndindex(labels.shape):
            assert geometry.contains(Point(x + 0.5, y + 0.5)) == (labels[y, x] == number)
        assert feature["properties"]["classification"]["name"] == "object" and not feature["properties"]["isLocked"]
        assert feature["properties"]["measurements"] == {"id": number, "score": round(1 / (number + 1), 4)}


def read_rois(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [ImagejRoi.frombytes(archive.read(name)) for name in archive.namelist()]


@given(LABELS)
@settings(max_examples=50)
def test_rois_surround_the_pixels(labels):
    plane = Plane(1, 2, 1, (2, 3, 2))
    rois = read_rois(encoding.roi_zip(prediction(labels, plane=plane)))
    assert [roi.name for roi in rois] == [str(number) for number in range(1, labels.max() + 1)]
    for number, roi in enumerate(rois, start=1):
        # As ImageJ counts: channels first, then depths, then times.
        assert (roi.position, roi.c_position, roi.z_position, roi.t_position) == (12, 2, 3, 2)
        rings = [ring.astype(int) for ring in roi.coordinates(multi=True)]
        assert (fill(rings, labels.shape) == (labels == number)).all()


@pytest.mark.parametrize(
    ("page", "axes", "shape", "channel", "plane", "position"),
    [
        (0, "", (), None, (-1, 0, 0), 0),
        (0, "", (), (1, 2), (1, 0, 0), 2),
        (4, "Z", (6,), None, (-1, 4, 0), 5),
        (4, "I", (6,), None, (-1, 4, 0), 5),
        (4, "T", (6,), None, (-1, 0, 4), 5),
        # A position of the other order, and an axis that is neither.
        (4, "TZ", (2, 3), (0, 2), (0, 1, 1), 9),
        (4, "ZT", (3, 2), None, (-1, 2, 0), 3),
        (7, "QTZ", (2, 2, 2), None, (-1, 3, 1), 8),
    ],
)
def test_places_in_stacks_are_those_of_imagej(page, axes, shape, channel, plane, position):
    found = plane_of(page, axes, shape, channel)
    assert ((found.c, found.z, found.t), found.position) == (plane, position)
    (roi,) = read_rois(encoding.roi_zip(prediction(np.ones((2, 2), np.int64), plane=found)))
    hyperstack = (plane[0] + 1 or 1, plane[1] + 1, plane[2] + 1) if found.is_hyperstack else (0, 0, 0)
    assert (roi.position, roi.c_position, roi.z_position, roi.t_position) == (position, *hyperstack)
    (feature,) = json.loads(encoding.geojson(prediction(np.ones((2, 2), np.int64), plane=found)))["features"]
    assert feature["geometry"]["plane"] == dict(zip("czt", plane, strict=True))


def test_equal_rois_are_equal_files(monkeypatch):
    first = encoding.roi_zip(prediction(RING))
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert encoding.roi_zip(prediction(RING)) == first


def test_rows_have_um_where_the_size_of_a_pixel_is_known():
    labels = np.zeros((8, 8), np.int64)
    labels[2:4, 4:6] = 1
    known, unknown = (
        dict(zip(tables.OBJECT_COLUMNS, *tables.object_rows(prediction(labels, pixel_size=size), labels), strict=True))
        for size in (PixelSize(0.5, 0.25), None)
    )
    in_um = ("area_um2", "diameter_um", "centroid_x_um", "centroid_y_um")
    assert [float(known[key]) for key in in_um] == pytest.approx([0.5, 2 * (0.5 / np.pi) ** 0.5, 2.25, 0.625], 1e-5)
    assert [unknown[key] for key in in_um] == [""] * 4


def test_rois_beyond_what_16_bits_hold_keep_their_place(tmp_path):
    labels = np.zeros((3, 70000), np.int64)
    labels[1, 69990:69995], labels[:2, 40000:40004] = 1, 2
    (tmp_path / "rois.zip").write_bytes(encoding.roi_zip(prediction(labels)))
    for number, roi in enumerate(roiread(tmp_path / "rois.zip"), start=1):
        assert (fill([roi.coordinates().astype(int)], labels.shape) == (labels == number)).all()


@given(LABELS, st.integers(1, 20))
@settings(max_examples=50)
def test_objects_in_groups_are_those_of_the_whole_image(labels, most):
    made = [encoding.geojson, encoding.roi_zip, encoding.coco, lambda found: list(tables.run_length_rows(found, "x"))]
    whole = [make(prediction(labels)) for make in made]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("karyon.io.object_groups.MOST_PIXELS", most)
        assert [make(prediction(labels)) for make in made] == whole


def test_a_lower_resolution_is_drawn_where_it_lies_in_the_file(tmp_path):
    found = replace(prediction(RING), factor=4.0)
    (feature,) = json.loads(encoding.geojson(found))["features"]
    assert shape(feature["geometry"]).area == 16 * (RING > 0).sum()
    (roi,) = read_rois(encoding.roi_zip(found))
    assert sorted(map(tuple, roi.coordinates(multi=True)[0].tolist()))[-1] == (12, 12)


def test_more_objects_than_16_bits_count_have_their_ids_in_every_format(tmp_path):
    labels = np.zeros((600, 600), np.int32)
    labels[::2, ::2] = np.arange(1, 90001).reshape(300, 300)
    results = ResultFolder(tmp_path, ("labels", "geojson", "coco", "objects", "run_lengths", "parquet"))
    results.write(prediction(labels, "a"), labels)
    results.close()
    results.join()
    assert (tifffile.imread(tmp_path / "labels/a.tif") == labels).all()
    last = json.loads((tmp_path / "geojson/a.geojson").read_bytes())["features"][-1]
    assert last["properties"]["name"] == "90000" and last["geometry"]["coordinates"][0][0] == [598, 598]
    assert json.loads((tmp_path / "coco/a.json").read_bytes())["annotations"][-1]["bbox"] == [598, 598, 1, 1]
    assert rows(tmp_path / "objects.csv")[-1][:5] == ["a", "90000", "1", "598.0", "598.0"]
    assert len(rows(tmp_path / "run_lengths.csv")) == 90000
    table = pyarrow.parquet.read_table(tmp_path / "objects.parquet").to_pydict()
    assert table["id"] == list(range(1, 90001)) and table["x1"][-1] == 599 and table["area_um2"][-1] is None


def test_large_label_images_are_pyramids(monkeypatch):
    monkeypatch.setattr(encoding, "PYRAMID", 0)
    labels = np.arange(700 * 1500, dtype=np.int32).reshape(700, 1500)
    data = encoding.label_tiff(labels, PixelSize(0.5, 0.5))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        (series,) = file.series
        assert [level.shape for level in series.levels] == [(700, 1500), (350, 750)]
        assert (series.asarray() == labels).all() and (series.levels[1].asarray() == labels[::2, ::2]).all()
    assert open_image(data, "a.tif").pixel_size == PixelSize(0.5, 0.5)


def read_coco(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


@given(LABELS)
@settings(max_examples=50)
def test_coco_masks_are_the_objects(tmp_path_factory, labels):
    path = tmp_path_factory.getbasetemp() / "coco.json"
    path.write_bytes(encoding.coco(prediction(labels)))
    annotations = read_coco(path)
    assert sorted(annotations.anns) == list(range(1, labels.max() + 1))
    for number, annotation in annotations.anns.items():
        mask = labels == number
        assert (annotations.annToMask(annotation) == mask).all()
        y, x = ndimage.find_objects(mask.astype(int))[0]
        assert annotation["bbox"] == [x.start, y.start, x.stop - x.start, y.stop - y.start]
        assert annotation["area"] == mask.sum()


@given(LABELS)
@settings(max_examples=50)
def test_label_tiff_and_run_lengths_give_the_labels_back(labels):
    assert (tifffile.imread(io.BytesIO(encoding.label_tiff(labels))) == labels).all()
    rows = list(tables.run_length_rows(prediction(labels), "x"))
    decoded = np.zeros(labels.size, np.int64)
    for number, (_, code) in enumerate(rows, start=1):
        if code:
            decoded[decode_run_lengths(code, labels.shape)] = number
    assert (decoded.reshape(labels.shape, order="F") == labels).all()


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


FORMATS = ("labels", "overlays", "scores", "jet", "rois", "geojson", "coco", "objects", "run_lengths")
SOURCE = np.zeros((3, 3), np.uint8)


def test_a_folder_holds_each_format_and_coco_of_the_whole_set(tmp_path):
    results = ResultFolder(tmp_path, FORMATS, stem=lambda name: name)
    second = np.array([[1, 0, 2], [0, 0, 2], [3, 3, 2]])
    results.write(prediction(RING, "a/1.png"), SOURCE)
    results.write(prediction(second, "b"), SOURCE)
    results.close()
    results.join()
    files_ = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files_ == {
        *("labels/a/1.png.tif", "overlays/a/1.png.png", "rois/a/1.png.zip", "geojson/a/1.png.geojson"),
        *("coco/a/1.png.json", "labels/b.tif", "overlays/b.png", "rois/b.zip", "geojson/b.geojson", "coco/b.json"),
        *("coco.json", "objects.csv", "run_lengths.csv", "counts.csv"),
        *(f"{kind}/{name}.png" for kind in ("scores", "jet") for name in ("a/1.png", "b")),
    }
    joined = read_coco(tmp_path / "coco.json")
    assert [image["file_name"] for image in joined.dataset["images"]] == ["a/1.png", "b"]
    for annotation in joined.anns.values():
        labels = RING if annotation["image_id"] == 1 else second
        assert (joined.annToMask(annotation) == (labels == annotation["label"])).all()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_file_that_did_not_become_whole_leaves_nothing_behind(tmp_path, error):
    (tmp_path / "a.tif").write_bytes(b"before")
    with pytest.raises(type(error)), whole(tmp_path / "a.tif") as writing:
        writing.write_bytes(b"half")
        raise error
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


def test_only_what_is_asked_for_is_written(tmp_path):
    results = ResultFolder(tmp_path, ["geojson"])
    results.write(prediction(RING), SOURCE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counts.csv", "geojson"]


@pytest.mark.parametrize("cut", ["", "bc", "b", "b,1"])
def test_a_folder_resumes_behind_its_last_complete_image(tmp_path, cut):
    first = ResultFolder(tmp_path)
    for name in ("a", "b"):
        first.write(prediction(RING, name), SOURCE)
    first.close()
    # Killed between the two tables, in the middle of a row.
    (tmp_path / "counts.csv").write_text(f"image,objects,confidence,note\na,1,,\n{cut}")
    with (tmp_path / "run_lengths.csv").open("a") as file:
        file.write("a")
    second = ResultFolder(tmp_path, resume=True)
    assert second.complete == {"a"}
    second.write(prediction(RING, "b"), SOURCE)
    second.close()
    for table in ("objects", "run_lengths", "counts"):
        assert [row[0] for row in rows(tmp_path / f"{table}.csv")] == ["a", "b"]
