"""The window's part: segment a layer, look at what is doubtful, keep what is corrected, fine-tune, segment again."""

from typing import Any

from magicgui.widgets import Container, Label
from qtpy.QtWidgets import QSizePolicy

from karyon.napari.window.retraining import Retraining
from karyon.napari.window.segmentation import Segmentation


class Workbench(Container[Any]):
    """Correct and retrain in one window.

    Args:
        napari_viewer: shows the layers.
    """

    def __init__(self, napari_viewer: Any) -> None:
        self.status = Label(value="Choose an image, and segment it.")
        self.status.native.setWordWrap(True)
        self.status.native.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.segmentation = Segmentation(napari_viewer, self.say)
        self.retraining = Retraining(self.segmentation, self.say)
        super().__init__(widgets=[self.segmentation, self.retraining, self.status], labels=False)
        self.native.layout().addStretch()

    def say(self, sentence: str) -> None:
        """Shows what has happened."""
        self.status.value = sentence
