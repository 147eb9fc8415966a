"""Annotation of Cellpose and of its GUI becomes the label image that Cellpose itself would show."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_annotation import IMAGE, LABELS, SIZE, save

from karyon.layouts.all_layouts import find_layout
from karyon.layouts.cellpose import Cellpose


def cellpose_gui(path: Path, masks: Any, **further: Any) -> None:
    """What the GUI keeps."""
    content = {"outlines": np.zeros(SIZE, np.uint16), "masks": masks, "chan_choose": [0, 0], "filename": "/a/b.tif"}
    content |= {"flows": [np.zeros((1, 2, 3)), [], None], "diameter": np.nan, "est_diam": np.float64(17), **further}
    np.save(path, content, allow_pickle=True)


def test_cellpose_takes_masks_then_its_own_then_the_guis(tmp_path: Path) -> None:
    for name in ("a.tif", "b.png", "deep/c.tif", "000_img.png", "d.tif", "x6.ome.tif"):
        save(tmp_path / name, IMAGE)
    save(tmp_path / "a_masks.tif", LABELS * 300)
    save(tmp_path / "a_cp_masks.png", LABELS * 0)
    save(tmp_path / "b_cp_masks.png", LABELS)
    save(tmp_path / "x6_cp_masks.png", LABELS)
    save(tmp_path / "000_masks.png", LABELS)
    save(tmp_path / "d_masks.tif", LABELS.astype(np.uint32) * 70000)
    cellpose_gui(tmp_path / "b_seg.npy", LABELS * 0)
    cellpose_gui(tmp_path / "deep" / "c_seg.npy", LABELS[None])
    save(tmp_path / "a_flows.tif", IMAGE)
    save(tmp_path / "b_cp_output.png", IMAGE)
    images = Cellpose().images(tmp_path)
    assert [image.name for image in images] == ["000_img", "a", "b", "d", "deep/c", "x6.ome"]
    for image, factor in zip(images, (1, 300, 1, 70000, 1, 1), strict=True):
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
        (LABELS / 2, "not object numbers"),
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
