"""Arrays of any kind go in and come out, by the conventions of the tools that hand them over."""

import pickle
from functools import partial

import dask.array
import numpy as np
import pytest
import xarray
from bundles import CARD, write_bundle
from scipy import ndimage

import karyon
from karyon.arrays import as_plane

# Squares apart from each other, in some of the places.
GREY = np.kron(np.random.default_rng(0).random((5, 7)) > 0.4, np.pad(np.full((8, 8), 200), 2)).astype(np.uint8)
TRUTH = ndimage.label(GREY)[0]
RGB = np.stack([GREY] * 3)
NAMES = {"c": ["R", "g", "blue"]}


@pytest.fixture
def segment(tmp_path):
    write_bundle(tmp_path)
    return partial(karyon.segment, model=tmp_path)


def same(labels):
    assert labels.dtype == np.int32 and labels.shape == TRUTH.shape
    return (np.asarray(labels) == TRUTH).all()


@pytest.mark.parametrize(
    ("image", "axes"),
    [
        (GREY, None),
        (GREY.T, "xy"),
        (GREY[None], "CYX"),
        (GREY[..., None], None),
        (GREY[None, None, :, None], ["t", "z", "y", "c", "x"]),
        (RGB, "CYX"),
        (RGB.transpose(1, 2, 0), None),
        (RGB.T, ("X", "Y", "S")),
        (GREY > 0, None),
        (GREY.astype(">u2"), None),
        (GREY.tolist(), None),
        (memoryview(GREY), None),
    ],
)
def test_axes_in_any_order_and_whatever_is_like_an_array(segment, image, axes):
    labels = segment(image, axes=axes)
    assert isinstance(labels, np.ndarray) and same(labels)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    "image",
    [
        xarray.DataArray(GREY, dims=("y", "x")),
        xarray.DataArray(GREY[None].T, dims=("X", "Y", "C"), coords={"C": ["DAPI"]}),
        xarray.DataArray(RGB, dims=("c", "y", "x"), coords=NAMES),
        xarray.DataArray(RGB, dims=("c", "y", "x"), coords=NAMES).sel(c="g"),
        xarray.DataArray(RGB.transpose(1, 2, 0), dims=("y", "x", "band")),
    ],
)
def test_xarrays_come_back_with_their_coordinates_and_attributes(segment, image, lazy):
    y, x = (dim for name in "yx" for dim in image.dims if dim.lower() == name)
    image = image.assign_coords({y: np.arange(60) / 4, x: np.arange(84) / 4}).assign_attrs(transform="kept")
    labels = segment(image.chunk(7) if lazy else image)
    assert isinstance(labels.data, dask.array.Array if lazy else np.ndarray)
    assert labels.dims == (y, x) and labels.attrs == image.attrs and same(labels)
    assert (labels[y] == image[y]).all() and (labels[x] == image[x]).all() and set(labels.coords) == {y, x}


@pytest.mark.parametrize(("image", "axes"), [(GREY, None), (RGB, "CYX"), (GREY[None], "CYX")])
def test_dasks_are_computed_when_they_are_asked_for(segment, image, axes):
    lazy = segment(dask.array.from_array(image, chunks=9), axes=axes)
    # As spatialdata's map_raster(..., blockwise=False) wants what a function returns.
    assert isinstance(lazy, dask.array.Array) and lazy.chunksize == TRUTH.shape and same(lazy)


def test_sopas_callable_takes_a_patch_and_gives_its_cells(segment):
    """Documented: from an image (C, Y, X) of the channels chosen to a mask (Y, X); C is 1 for one channel."""
    method = pickle.loads(pickle.dumps(partial(segment, axes="CYX")))
    cells = np.zeros(TRUTH.shape, int)
    for left in (0, 48):
        # After its smoothing and equalisation, patches are floats in [0, 1].
        found = method(np.stack([GREY[:, left : left + 48]]) / 255)
        cells[:, left : left + 48] += np.where(found, found + cells.max(), 0)
    assert ((cells > 0) == (TRUTH > 0)).all()


def test_blocks_of_spatialdata(segment):
    """Documented: map_raster(image, func, dims=("y", "x"), ...) calls it with blocks (C, Y, X) of Dask's."""
    pixels = dask.array.from_array(GREY[None], chunks=(1, 60, 24))
    labels = dask.array.map_blocks(partial(segment, axes="CYX"), pixels, dtype=np.int32, drop_axis=0)
    assert ((labels.compute() > 0) == (GREY > 0)).all()


@pytest.mark.parametrize(
    ("image", "axes", "problem"),
    [
        (np.zeros((2, 8, 8)), "CYX", "image: the axes CYX cannot be used: expected (H, W) or (H, W, 3)"),
        (np.zeros((8, 8)), "CYX", "the axes CYX cannot be used"),
        (np.zeros((8, 8)), "YY", "the axes YY cannot be used"),
        (np.zeros((3, 8, 8)), "ZYX", "the axes ZYX cannot be used"),
        (np.zeros((8, 8)), ("rows", "x"), "the axes rowsx cannot be used"),
        (xarray.DataArray(np.zeros((8, 8)), dims=("a", "b")), None, "the shape (8, 8) cannot be used"),
        (xarray.DataArray(RGB, dims=("c", "y", "x"), coords={"c": ["DAPI", "CD3", "Ki67"]}), None, "c='DAPI'"),
        (dask.array.zeros((2, 8, 8)), None, "the shape (2, 8, 8) cannot be used"),
        ([[1, 2], [3]], None, "image: it is not an array of numbers ("),
        (["a", "b"], None, "image: it is not an array of numbers, but of <U1"),
        (None, None, "image: it is not an array of numbers, but of object"),
        (GREY * 1j, None, "image: the pixels are complex numbers"),
        (np.zeros((0, 8)), None, "the shape (0, 8) cannot be used"),
    ],
)
def test_what_is_no_image_is_one_sentence(segment, image, axes, problem, refused):
    with refused(problem):
        segment(image, axes=axes)


def test_no_pixel_is_copied():
    assert np.shares_memory(as_plane(RGB, "CYX"), RGB)


def test_a_named_model_is_loaded_once_until_its_files_change(tmp_path, monkeypatch):
    loaded, load = [], karyon.load_model
    monkeypatch.setattr("karyon.label_arrays.load_model", lambda name: loaded.append(name) or load(name))
    write_bundle(tmp_path)
    for _ in range(3):
        karyon.segment(GREY, tmp_path)
    assert len(loaded) == 1
    higher = {"class_path": CARD.model["postprocessing"]["class_path"], "init_args": {"threshold": 1.0}}
    write_bundle(tmp_path, model={**CARD.model, "postprocessing": higher})
    assert not karyon.segment(GREY, tmp_path).any() and len(loaded) == 2


def test_a_model_with_options_of_its_own_and_those_of_an_answer(segment, tmp_path):
    model = karyon.load_model(tmp_path, rotations=True)
    assert same(segment(GREY, model=model))
    assert segment(GREY, diameter=10.0, background="bright", pixel_size=0.5).shape == GREY.shape
