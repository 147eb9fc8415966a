"""The plugin in a real window of napari; skipped where there is no napari, or no OpenGL for a window to draw with."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from bundles import write_bundle

pytestmark = pytest.mark.slow


@pytest.fixture
def viewer() -> Iterator[Any]:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    napari = pytest.importorskip("napari")
    qt = pytest.importorskip("qtpy.QtGui")
    from qtpy.QtWidgets import QApplication

    app = QApplication.instance() or QApplication([])
    if not qt.QOpenGLContext().create():
        pytest.skip("Qt has no OpenGL here: xvfb-run gives it one.")
    viewer = napari.Viewer(show=False)
    yield viewer
    viewer.close()
    app.processEvents()


def wait(done: Callable[[], bool]) -> None:
    from qtpy.QtWidgets import QApplication

    for _ in range(20_000):
        QApplication.processEvents()
        if done():
            return
        time.sleep(0.01)
    raise AssertionError("It does not end.")


def test_segment_look_correct_keep(viewer: Any, tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    _, bench = viewer.window.add_plugin_dock_widget("karyon", "Segment, correct and retrain")
    segmentation, retraining = bench.segmentation, bench.retraining
    segmentation.show_next()
    assert "Nothing is segmented yet" in bench.status.value
    viewer.open_sample("karyon", "stack")
    segmentation.add_model(tmp_path / "bundle")
    assert segmentation.model.value == str(tmp_path / "bundle") and "nuclei" in segmentation.model.choices
    segmentation.add_model(tmp_path)
    assert "There is no model" in bench.status.value and segmentation.model.value == str(tmp_path / "bundle")

    segmentation.run.native.click()
    segmentation.end.native.click()
    wait(lambda: segmentation.run.enabled)
    assert bench.status.value == "Stopped: nothing was changed." and len(viewer.layers) == 1

    segmentation.run.native.click()
    assert not segmentation.run.enabled
    wait(lambda: segmentation.run.enabled)
    labels = segmentation.labels_of(segmentation.image.value)
    assert labels.data.shape == (4, 256, 256) and labels.data[3].max() == len(labels.features)
    assert labels.features["doubt"].is_monotonic_decreasing

    segmentation.next.native.click()
    worst = labels.features.iloc[0]
    assert labels.selected_label == worst["index"] and viewer.dims.current_step[0] == round(worst["axis-0"])
    assert viewer.scene.camera.center[-2:] == pytest.approx((worst["axis-1"], worst["axis-2"]))
    # An object of one pixel does not fill the window.
    assert worst["area"] == 1 and viewer.scene.camera.zoom == 12
    corrected = np.where(labels.data == worst["index"], 0, labels.data)
    labels.data = corrected
    retraining.folder.value = tmp_path / "pairs"
    retraining.keep.native.click()
    (kept,) = (tmp_path / "pairs" / "labels").iterdir()
    plane = viewer.dims.current_step[0]
    assert (tifffile.imread(kept) == corrected[plane]).all() and worst["index"] not in set(labels.features["index"])
    assert "1 pair in" in bench.status.value

    # What was erased and what was drawn outlive another segmentation.
    empty = np.argwhere(labels.data[0] == 0)[0]
    labels.data_setitem((np.array([0]), *np.split(empty, 2)), 999)
    for _ in range(2):
        segmentation.run.native.click()
        wait(lambda: segmentation.run.enabled)
        assert ((labels.data > 0) == (corrected > 0) + (labels.data == labels.data[0, *empty])).all()
        assert (labels.data == labels.data[0, *empty]).sum() == 1 and "1 of yours" in bench.status.value


def test_fine_tune_and_segment_again(viewer: Any, tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    write_bundle(tmp_path / "bundle")
    _, bench = viewer.window.add_plugin_dock_widget("karyon", "Segment, correct and retrain")
    segmentation, retraining = bench.segmentation, bench.retraining
    viewer.open_sample("karyon", "fluorescence")
    segmentation.add_model(tmp_path / "bundle")
    segmentation.run.native.click()
    wait(lambda: segmentation.run.enabled)
    retraining.folder.value, retraining.epochs.value = tmp_path / "pairs", 1
    retraining.keep.native.click()
    retraining.run.native.click()
    wait(lambda: retraining.work is None)
    assert "segment again" in bench.status.value and segmentation.model.value.endswith("bundle")
    assert all(retraining.curve.curves.values())
    segmentation.run.native.click()
    wait(lambda: segmentation.run.enabled)
    assert "objects" in bench.status.value
