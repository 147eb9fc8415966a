"""Keeps corrected images as pairs, fine-tunes on them, and offers the new model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from magicgui.types import FileDialogMode
from magicgui.widgets import Container, FileEdit, PushButton, SpinBox
from qtpy.QtCore import QTimer

from karyon.errors import DataError
from karyon.napari.pairs import keep_pair
from karyon.napari.segmenting import features, plane_of
from karyon.napari.training import FineTuning, fine_tune
from karyon.napari.window.curve import Curve
from karyon.napari.window.segmentation import Segmentation
from karyon.napari.window.told import told

OFTEN = 1000  # ms
EPOCHS = 6


class Retraining(Container[Any]):
    """From corrected labels to a new model.

    Args:
        segmentation: has the chosen image and its labels, and takes the new model.
        say: shows a sentence.
    """

    def __init__(self, segmentation: Segmentation, say: Callable[[str], None]) -> None:
        self.segmentation, self.say = segmentation, say
        self.work: FineTuning | None = None
        self.folder = FileEdit(
            label="training pairs", mode=FileDialogMode.EXISTING_DIRECTORY, value=Path.home() / "karyon-pairs"
        )
        self.keep = PushButton(text="Keep as training pair")
        self.epochs = SpinBox(label="epochs", value=EPOCHS, min=1, max=1000)
        self.run, self.end = PushButton(text="Fine-tune"), PushButton(text="Stop", enabled=False)
        buttons = Container(widgets=[self.run, self.end], layout="horizontal", labels=False)
        super().__init__(widgets=[self.folder, self.keep, self.epochs, buttons])
        self.curve = Curve()
        self.native.layout().addWidget(self.curve)
        self.timer = QTimer(self.native)
        self.timer.timeout.connect(self.look)
        self.keep.clicked.connect(self.keep_shown)
        self.run.clicked.connect(self.begin)
        self.end.clicked.connect(self.stop)

    @told
    def keep_shown(self) -> None:
        """Writes the plane that is shown, and its labels, as they are now."""
        layer = self.segmentation.image.value
        if layer is None or (labels := self.segmentation.labels_of(layer)) is None:
            raise DataError("Nothing is segmented yet: choose an image, and segment it.")
        index = self.segmentation.shown_plane(layer)
        pixels = layer.data[0] if layer.multiscale else layer.data
        plane = plane_of(pixels, layer.rgb, index, self.segmentation.channel.value)
        name = "-".join([layer.name, *map(str, index)])
        path = keep_pair(Path(str(self.folder.value)), name, plane, labels.data[index])
        labels.features = features(labels.data, labels.metadata["scores"])
        kept = len(list(path.parent.glob("*.tif")))
        self.say(f"Kept as {path.stem}; {kept} pair{'s' * (kept > 1)} in {self.folder.value}.")

    @told
    def begin(self) -> None:
        """Starts a fine-tuning."""
        self.work = fine_tune(Path(str(self.folder.value)), self.segmentation.model.value, self.epochs.value)
        self.run.enabled, self.end.enabled = False, True
        self.timer.start(OFTEN)
        self.look()

    @told
    def look(self) -> None:
        """Looks how far the fine-tuning is; takes its model when it is done."""
        if self.work is None:
            return
        try:
            going = self.work.poll()
        except DataError:
            self._ended()
            raise
        curves = self.work.curves()
        self.curve.show_curves(curves)
        if going:
            done = len(curves["val/dsb_score"])
            self.say(f"Fine-tuning: {done} of {self.work.epochs} epochs.")
            return
        model = self.work.bundle
        self._ended()
        self.segmentation.add_model(model)
        self.say(f"The new model {model.parent.name} is chosen: segment again.")

    def stop(self) -> None:
        """Ends the fine-tuning."""
        if self.work is not None:
            self.work.stop()
        self._ended()
        self.say("Stopped: the model is as it was.")

    def _ended(self) -> None:
        self.timer.stop()
        self.work = None
        self.run.enabled, self.end.enabled = True, False
