"""Annotation as other tools write it becomes the label image that the tool itself would show."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as pycoco
from shapely import Polygon, box, contains_xy

from datamodules.folder import FolderDataModule
from datamodules.layouts.cellpose import Cellpose
from datamodules.layouts.coco import Coco
from datamodules.layouts.known import LAYOUTS, find_layout
from datamodules.layouts.label_folders import LabelFolders
from datamodules.layouts.mask_files import MaskFiles
from datamodules.layouts.qupath import QuPath
from datamodules.layouts.regions import counts_spans, paint, polygon_spans

SIZE = (20, 30)
LABELS = np.zeros(SIZE, np.uint16)
LABELS[2:8, 2:8], LABELS[2:8, 8:14], LABELS[12:18, 20:29] = 1, 2, 3
IMAGE = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)
MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=9))


def save(path: Path, content: Any) -> Path:
    """Writes an array as TIFF or PNG, anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, np.ndarray):
        path.write_text(json.dumps(content))
    elif path.suffix == ".png":
        path.write_bytes(cv2.imencode(".png", content)[1].tobytes())
    else:
        tifffile.imwrite(path, content)
    return path


def mask_of(spans: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return paint([("object", spans)], size) > 0 if (spans[:, 1] > spans[:, 0]).any() else np.zeros(size, bool)


# --- run lengths and polygons


@settings(deadline=None)
@given(MASKS)
def test_run_lengths_of_both_kinds_are_read_as_pycocotools_writes_them(mask: np.ndarray) -> None:
    text = pycoco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    numbers = np.diff(edges, prepend=0, append=flat.size).tolist()
    for counts in (text, text.decode(), numbers):
        assert (mask_of(counts_spans(counts, mask.shape, "a"), mask.shape) == mask).all()


def test_long_run_lengths_and_differences_below_zero() -> None:
    mask = np.zeros((700, 900), np.uint8)
    mask[10:650, 100:103], mask[5:690, 500], mask[300:302, 700:800] = 1, 1, 1
    text = pycoco.encode(np.asfortranarray(mask))["counts"]
    assert (mask_of(counts_spans(text, mask.shape, "a"), mask.shape) == mask).all()


@pytest.mark.parametrize(
    "counts", ["\n", "P", "0~", [3, -1], [2, 8], [[1], [2, 3]], ["a"], None, {"a": 1}, [1e30], "o" * 20]
)
def test_what_are_no_run_lengths_is_refused(counts: Any, refused: Callable) -> None:
    with refused("object 7", "run lengths", "3 x 3 px"):
        counts_spans(counts, (3, 3), "object 7")


CORNERS = st.lists(st.tuples(st.floats(-5, 20), st.floats(-5, 20)), min_size=3, max_size=8)


@settings(deadline=None)
@given(CORNERS)
def test_a_polygon_has_the_pixels_that_pycocotools_gives_it(corners: list[tuple[float, float]]) -> None:
    size = (12, 15)
    (code,) = pycoco.frPyObjects([np.ravel(corners).tolist()], *size)
    assert (mask_of(polygon_spans([corners], size, "a"), size) == pycoco.decode(code)).all()


def test_a_ring_in_a_polygon_is_a_hole_and_pixels_far_from_the_outline_are_certain() -> None:
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    outer, inner = 25.3 + 20.4 * circle, 27.1 + 8.2 * circle[::-1]
    found = mask_of(polygon_spans([outer, inner], (50, 52), "a"), (50, 52))
    polygon = Polygon(outer, [inner])
    y, x = np.mgrid[:50, :52] + 0.5
    inside = contains_xy(polygon, x, y)
    near = contains_xy(polygon.boundary.buffer(0.75), x, y)
    assert (found == inside)[~near].all() and near.mean() < 0.12
    assert abs(found.sum() / polygon.intersection(box(0, 0, 52, 50)).area - 1) < 0.01


@pytest.mark.parametrize(
    "ring",
    [[[0, 0], [1, 1]], [[0, 0], [1, float("nan")], [2, 2]], [[0, 0], [1e9, 1], [2, 2]], "abc", [1, 2, 3], [[]] * 3],
)
def test_what_is_no_ring_is_refused(ring: Any, refused: Callable) -> None:
    with refused("object 7", "a ring", "10 x 10 px", "three or more corners"):
        polygon_spans([ring], (10, 10), "object 7")


# --- Cellpose


def cellpose_gui(path: Path, masks: Any, **further: Any) -> None:
    """What the GUI keeps."""
    content = {"outlines": np.zeros(SIZE, np.uint16), "masks": masks, "chan_choose": [0, 0], "filename": "/a/b.tif"}
    content |= {"flows": [np.zeros((1, 2, 3)), [], None], "diameter": np.nan, "est_diam": np.float64(17), **further}
    np.save(path, content, allow_pickle=True)


def test_cellpose_takes_masks_then_its_own_then_the_guis(tmp_path: Path) -> None:
    for name in ("a.tif", "b.png", "deep/c.tif", "000_img.png", "d.tif"):
        save(tmp_path / name, IMAGE)
    save(tmp_path / "a_masks.tif", LABELS * 300)
    save(tmp_path / "a_cp_masks.png", LABELS * 0)
    save(tmp_path / "b_cp_masks.png", LABELS)
    save(tmp_path / "000_masks.png", LABELS)
    save(tmp_path / "d_masks.tif", LABELS.astype(np.uint32) * 70000)
    cellpose_gui(tmp_path / "b_seg.npy", LABELS * 0)
    cellpose_gui(tmp_path / "deep" / "c_seg.npy", LABELS[None])
    save(tmp_path / "a_flows.tif", IMAGE)
    save(tmp_path / "b_cp_output.png", IMAGE)
    images = Cellpose().images(tmp_path)
    assert [image.name for image in images] == ["000_img", "a", "b", "d", "deep/c"]
    for image, factor in zip(images, (1, 300, 1, 70000, 1), strict=True):
        pixels, labels = image.read()
        assert (pixels == IMAGE).all() and (labels == LABELS.astype(int) * factor).all()
    assert find_layout(tmp_path) == Cellpose()


def test_a_file_of_the_gui_with_numpy_1_is_read_too(tmp_path: Path) -> None:
    save(tmp_path / "a.tif", IMAGE)
    cellpose_gui(tmp_path / "a_seg.npy", LABELS)
    content = np.load(tmp_path / "a_seg.npy", allow_pickle=True)
    with (tmp_path / "a_seg.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        # As NumPy 1 named its parts, and as it pickled.
        file.write(pickle.dumps(content, protocol=3).replace(b"numpy._core.", b"numpy.core."))
    assert (Cellpose().images(tmp_path)[0].read()[1] == LABELS).all()


def test_a_pickle_of_the_gui_runs_nothing(tmp_path: Path, refused: Callable) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    save(tmp_path / "a.tif", IMAGE)
    (image,) = Cellpose().images(tmp_path)
    assert image.problem
    cellpose_gui(tmp_path / "a_seg.npy", LABELS, model_path=Trap())
    (image,) = Cellpose().images(tmp_path)
    with refused(tmp_path / "a_seg.npy", "it asks for pathlib", "save the masks as PNG or TIFF"):
        image.read()
    assert not (tmp_path / "sprung").exists()
    np.load(tmp_path / "a_seg.npy", allow_pickle=True)
    assert (tmp_path / "sprung").exists(), "the trap would have worked"


@pytest.mark.parametrize(
    ("masks", "sentence"),
    [
        (np.stack([LABELS, LABELS]), "of shape (2, 20, 30)"),
        ("masks", "its masks are <U5"),
        (None, "its masks are object"),
        ((LABELS > 0) * 255, "binary mask"),
        (LABELS / 2, "no object numbers"),
        (LABELS[:10], "the label image is 10 x 30 px"),
    ],
)
def test_masks_of_the_gui_that_are_none_are_refused(
    masks: Any, sentence: str, tmp_path: Path, refused: Callable
) -> None:
    save(tmp_path / "a.tif", IMAGE)
    cellpose_gui(tmp_path / "a_seg.npy", masks)
    (image,) = Cellpose().images(tmp_path)
    with refused(tmp_path / "a", sentence):
        image.read()


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_cut_file_of_the_gui_is_refused(share: float, tmp_path: Path, refused: Callable) -> None:
    save(tmp_path / "a.tif", IMAGE)
    path = tmp_path / "a_seg.npy"
    cellpose_gui(path, LABELS)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with refused(path, "cannot be read"):
        Cellpose().images(tmp_path)[0].read()


# --- COCO


def square(left: float, top: float, side: float) -> list[float]:
    return [left, top, left + side, top, left + side, top + side, left, top + side]


def entry(number: int, segmentation: Any, image: int = 1, **further: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": 3, "segmentation": segmentation, **further}


def coco(*annotations: dict[str, Any], names: tuple[str, ...] = ("a.png",)) -> dict[str, Any]:
    images = [{"id": number, "file_name": name} for number, name in enumerate(names, start=1)]
    return {"images": images, "annotations": list(annotations), "categories": [{"id": 3, "name": "nucleus"}]}


def test_coco_has_polygons_of_several_parts_overlaps_and_crowds(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", IMAGE)
    save(tmp_path / "images" / "b.png", IMAGE)
    crowd = {"size": [20, 30], "counts": [0, 600]}
    content = coco(
        entry(5, [square(2, 2, 6), square(20, 12, 3)]),
        entry(9, crowd, iscrowd=1),
        entry(2, [square(7, 2, 4)], iscrowd=0),
        names=("a.png", "b.png"),
    )
    save(tmp_path / "coco.json", content)
    save(tmp_path / "other.json", {"settings": 1})
    expected = np.zeros(SIZE, int)
    expected[2:8, 2:8], expected[12:15, 20:23], expected[2:6, 7:11] = 1, 1, 2
    for root in (tmp_path, tmp_path / "coco.json"):
        assert find_layout(root) == Coco()
        first, second = Coco().images(root)
        assert (first.read()[1] == expected).all()
        assert not second.read()[1].any(), "an image without annotations holds no object"


def test_coco_finds_images_in_folders_of_other_names(tmp_path: Path) -> None:
    for name in ("train/a.png", "train/p/a.png", "val/b.png"):
        save(tmp_path / name, IMAGE)
    names = ("p/a.png", "b.png", "train\\a.png")
    path = save(tmp_path / "annotations" / "instances.json", coco(entry(1, [square(1, 1, 3)], image=3), names=names))
    for root in (tmp_path, path):
        images = Coco().images(root)
        assert {image.name: str(image.file.relative_to(tmp_path)) for image in images} == {
            "b": "val/b.png",
            "p/a": "train/p/a.png",
            "train/a": "train/a.png",
        }
        assert [image.read()[1].max() for image in images] == [0, 0, 1]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([], "is no COCO file"),
        ({"images": [{}], "annotations": []}, "is no COCO file"),
        (coco(entry(1, [square(1, 1, 3)], image=8)), "is no COCO file (8): expected"),
        (coco(names=()), "lists no image"),
        (coco(names=("a.png", "a.tif")), "lists two images named a"),
        (coco(names=("../a.png",)), "lists ../a.png, which leaves the folder"),
        (coco(names=("/a.png",)), "lists /a.png, which leaves the folder"),
        (coco(names=("",)), "which leaves the folder"),
    ],
)
def test_what_is_no_coco_file_is_refused(content: Any, sentence: str, tmp_path: Path, refused: Callable) -> None:
    save(tmp_path / "a.png", IMAGE)
    path = save(tmp_path / "coco.json", content)
    with refused(path, sentence):
        Coco().images(path)


def test_coco_files_must_be_clear(tmp_path: Path, refused: Callable) -> None:
    with refused(tmp_path, "holds no COCO file"):
        Coco().images(tmp_path)
    save(tmp_path / "train.json", coco())
    (image,) = Coco().images(tmp_path)
    with refused("train.json lists a.png, which is not below", "put it there"):
        image.read()
    save(tmp_path / "x" / "a.png", IMAGE)
    save(tmp_path / "y" / "a.png", IMAGE)
    (image,) = Coco().images(tmp_path)
    with refused("lists a.png, which could be", "x/a.png", "y/a.png"):
        image.read()
    save(tmp_path / "annotations" / "val.json", coco())
    with refused(tmp_path, "several COCO files (annotations/val.json, train.json)", "in place of the folder"):
        Coco().images(tmp_path)


@pytest.mark.parametrize(
    ("annotation", "sentence"),
    [
        (entry(4, []), "annotation 4 of a.png has no outline"),
        ({"id": 4, "image_id": 1, "bbox": [1, 1, 2, 2]}, "annotation 4 of a.png has no outline"),
        (entry(4, [[1, 2, 3, 4, 5]]), "annotation 4 of a.png has polygons that are none"),
        (entry(4, [square(90, 90, 3)]), "annotation 4 of a.png has a ring that is none, or lies far outside"),
        (entry(4, [square(40, 25, 3)]), "annotation 4 of a.png has no pixel of its own"),
        (entry(4, {"size": [30, 20], "counts": [0, 5]}), "is of an image of [30, 20] px (height, width), not [20, 30]"),
        (entry(4, {"size": [20, 30], "counts": [0, 601]}), "run lengths that are none, or leave"),
    ],
)
def test_bad_annotations_of_coco_are_named(
    annotation: dict[str, Any], sentence: str, tmp_path: Path, refused: Callable
) -> None:
    save(tmp_path / "a.png", IMAGE)
    save(tmp_path / "coco.json", coco(annotation))
    (image,) = Coco().images(tmp_path)
    with refused(tmp_path / "coco.json", sentence):
        image.read()


def test_an_object_that_others_cover_is_named(tmp_path: Path, refused: Callable) -> None:
    save(tmp_path / "a.png", IMAGE)
    save(tmp_path / "coco.json", coco(entry(1, [square(2, 2, 3)]), entry(2, [square(1, 1, 8)])))
    with refused("annotation 1 of a.png has no pixel of its own", "covered by the objects after it"):
        Coco().images(tmp_path)[0].read()


# --- QuPath


def feature(kind: str, coordinates: Any, object_type: str = "annotation") -> dict[str, Any]:
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": {"objectType": object_type}}


def ring(left: float, top: float, side: float) -> list[list[float]]:
    corners = np.reshape(square(left, top, side), (-1, 2)).tolist()
    return [*corners, corners[0]]


def test_qupath_in_each_form_that_it_exports(tmp_path: Path) -> None:
    features = [
        feature("Polygon", [ring(2, 2, 6), ring(4, 4, 2)]),
        feature("MultiPolygon", [[ring(20, 12, 3)], [ring(25, 12, 3)]]),
        feature("Polygon", [ring(7, 2, 4)]),
    ]
    expected = np.zeros(SIZE, int)
    expected[2:8, 2:8], expected[4:6, 4:6], expected[12:15, 20:23], expected[12:15, 25:28] = 1, 0, 2, 2
    expected[2:6, 7:11] = 3
    forms = {"a": {"type": "FeatureCollection", "features": features}, "b": features, "c": features[2]}
    for name, form in forms.items():
        save(tmp_path / "images" / f"{name}.tif", IMAGE)
        save(tmp_path / "geojson" / (f"{name}.geojson" if name != "b" else "b.tif.geojson"), form)
    save(tmp_path / "images" / "d.tif", IMAGE)
    save(tmp_path / "geojson" / "d.geojson", {"type": "FeatureCollection", "features": []})
    beside = tmp_path / "beside"
    beside.mkdir()
    shutil.copy(tmp_path / "images" / "a.tif", beside)
    shutil.copy(tmp_path / "geojson" / "a.geojson", beside)
    assert (QuPath().images(beside)[0].read()[1] == expected).all()
    shutil.rmtree(beside)
    assert find_layout(tmp_path) == QuPath()
    a, b, c, d = (image.read()[1] for image in QuPath().images(tmp_path))
    assert (a == expected).all() and (b == expected).all()
    assert (c == (expected == 3)).all() and not d.any()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("text", "is no GeoJSON of objects"),
        ([3], "is no GeoJSON of objects"),
        ([feature("Point", [1, 2])], "object 1 is no polygon but Point"),
        ([{"type": "Feature", "geometry": None}], "object 1 is no polygon but nothing"),
        ([{"type": "Feature", "geometry": "Polygon"}], "object 1 is no polygon but nothing"),
        ([feature("MultiPolygon", None)], "object 1 is no polygon but MultiPolygon"),
        ([feature("MultiPolygon", [3])], "object 1 is no polygon but MultiPolygon"),
        ([feature("MultiPolygon", [])], "object 1 has no pixel of its own"),
        ([feature("Polygon", 3)], "object 1 is no polygon"),
        ([feature("Polygon", [])], "object 1 has no pixel of its own"),
        ([feature("Polygon", [ring(1, 1, 3)]), feature("Polygon", [[3]])], "object 2 has a ring that is none"),
        (
            [feature("Polygon", [ring(1, 1, 9)]), feature("Polygon", [ring(2, 2, 3)], "detection")],
            "several kinds (annotation, detection): select one kind",
        ),
    ],
)
def test_bad_geojson_is_refused(content: Any, sentence: str, tmp_path: Path, refused: Callable) -> None:
    save(tmp_path / "a.tif", IMAGE)
    save(tmp_path / "a.geojson", content)
    with refused(tmp_path / "a.geojson", sentence):
        QuPath().images(tmp_path)[0].read()


# --- which layout it is


def stardist(root: Path, name: str = "a") -> None:
    save(root / "images" / f"{name}.tif", IMAGE)
    save(root / "masks" / f"{name}.tif", LABELS)


def test_a_folder_of_one_layout_is_recognised(layout: Path, tmp_path: Path) -> None:
    stardist(tmp_path)
    assert find_layout(tmp_path) == LabelFolders("masks")
    (tmp_path / "masks").rename(tmp_path / "labels")
    assert find_layout(tmp_path) == LabelFolders("labels")
    assert find_layout(layout / "stage1_train") == MaskFiles()


def test_an_ambiguous_folder_is_refused_with_its_candidates(tmp_path: Path, refused: Callable) -> None:
    stardist(tmp_path)
    save(tmp_path / "labels" / "a.tif", LABELS)
    save(tmp_path / "images" / "a_masks.tif", LABELS)
    with refused(
        tmp_path, "karyon (LabelFolders(labels='labels')) or stardist", "or cellpose (Cellpose())", "--from NAME"
    ):
        find_layout(tmp_path)
    with refused(tmp_path, "--data.init_args.layout"):
        FolderDataModule(tmp_path).setup("fit")
    data = FolderDataModule(tmp_path, layout=Cellpose(), predict_root=None)
    data.setup("predict")
    assert [item.name for item in data.items["predict"]] == ["images/a", "labels/a", "masks/a"]


def test_an_unknown_folder_is_refused_with_what_is_known(tmp_path: Path, refused: Callable) -> None:
    save(tmp_path / "a.tif", IMAGE)
    for root in (tmp_path, tmp_path / "none"):
        with refused(root, "images/ and labels/", ", ".join(list(LAYOUTS)[1:])):
            find_layout(root)


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name not in ("coco", "dsb2018")])
def test_an_image_without_its_annotation_is_known_before_training(name: str, tmp_path: Path, refused: Callable) -> None:
    for picture in ("a", "b"):
        stardist(tmp_path, picture)
    (tmp_path / "labels").mkdir()
    with refused(tmp_path / "images" / "a.tif", "expected"):
        (tmp_path / "masks" / "a.tif").unlink()
        FolderDataModule(tmp_path, layout=LAYOUTS[name]).setup("fit")


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_empty_folder_is_refused_by_each(name: str, tmp_path: Path, refused: Callable) -> None:
    for root in (tmp_path / "none", tmp_path):
        with refused(root):
            LAYOUTS[name].images(root)


def test_images_of_every_layout_travel_to_workers(layout: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "a"), "zip", layout / "stage1_train"))
    stardist(tmp_path / "s")
    save(tmp_path / "s" / "images" / "a.geojson", [feature("Polygon", [ring(1, 1, 3)])])
    save(tmp_path / "s" / "coco.json", coco(names=("a.tif",)))
    roots = {MaskFiles(): archive, LabelFolders("masks"): tmp_path / "s", Coco(): tmp_path / "s"}
    roots |= {QuPath(): tmp_path / "s" / "images"}
    for known, root in roots.items():
        assert root == tmp_path / "s" or find_layout(root) == known
        for image in known.images(root):
            (_, expected), (_, labels) = image.read(), pickle.loads(pickle.dumps(image)).read()
            assert (labels == expected).all()


def test_masks_of_one_nucleus_become_ids_in_the_order_of_their_names(layout: Path) -> None:
    for image in MaskFiles().images(layout / "stage1_train"):
        pixels, labels = image.read()
        masks = sorted((layout / "stage1_train" / image.name / "masks").iterdir())
        assert labels.max() == len(masks) and pixels.shape[:2] == labels.shape
        for number, path in enumerate(masks, start=1):
            assert ((cv2.imread(str(path), -1) > 0) == (labels == number)).all()
