"""Segments a layer off the main thread, and leads from one doubtful object to the next."""

from collections.abc import Callable
from threading import Event
from typing import Any

import numpy as np
from magicgui.types import FileDialogMode
from magicgui.widgets import ComboBox, Container, FileEdit, FloatSpinBox, ProgressBar, PushButton, create_widget
from napari.layers import Image, Labels
from napari.qt.threading import thread_worker
from superqt.utils import ensure_main_thread

from karyon.bundle import read_card
from karyon.errors import DataError
from karyon.model import find_bundle
from karyon.model_names import DEFAULT, MODELS
from karyon.napari.segmenting import (
    COLOURS,
    Look,
    Segmented,
    StoppedError,
    cached_model,
    features,
    keep_corrections,
    next_doubtful,
    segment_layer,
)
from karyon.napari.window.told import told

ACROSS = 80  # px of the screen, how wide a doubtful object is shown
CLOSEST = 12  # px of the screen for one of the image at most, where it is small
OUTLINES = 40  # as many times as wide as its outline is the usual object, so that the whole image shows them, too


class Segmentation(Container[Any]):
    """Chooses image and model, segments, and shows the objects, doubtful ones first.

    Args:
        viewer: napari's.
        say: shows a sentence.
    """

    def __init__(self, viewer: Any, say: Callable[[str], None]) -> None:
        self.viewer, self.say, self.stop = viewer, say, Event()
        names = sorted((path.parent.name for path in MODELS.glob("*/card.json")), key=lambda name: name != DEFAULT)
        self.models = {name: name for name in names}
        self.image = _image_choice()
        self.model = ComboBox(label="model", choices=lambda _: list(self.models.items()))
        self.other = FileEdit(label="another model", mode=FileDialogMode.EXISTING_DIRECTORY, nullable=True)
        self.background = ComboBox(label="background", choices=("auto", "dark", "bright"))
        self.diameter = FloatSpinBox(label="diameter (px, 0: found)", max=2000, step=1)
        self.pixel_size = FloatSpinBox(label="pixel size (um, 0: unknown)", max=100, step=0.001)
        self.channel = ComboBox(label="channel, in colour", choices=COLOURS)
        self.run, self.end = PushButton(text="Segment"), PushButton(text="Stop", enabled=False)
        self.progress = ProgressBar(max=100)
        self.next = PushButton(text="Next doubtful object")
        buttons = Container(widgets=[self.run, self.end], layout="horizontal", labels=False)
        shown = [self.image, self.model, self.other, self.background, self.diameter, self.pixel_size, self.channel]
        super().__init__(widgets=[*shown, buttons, self.progress, self.next])
        self.run.clicked.connect(self.segment)
        self.end.clicked.connect(self.stop.set)
        self.next.clicked.connect(self.show_next)
        self.other.changed.connect(self.add_model)
        self.image.changed.connect(self._take_pixel_size)

    @told
    def add_model(self, path: Any) -> None:
        """Offers another model by its name, or its folder where the name is taken, and chooses it."""
        if not path:
            return
        if str(path) not in self.models.values():
            name = read_card(find_bundle(path)).name
            self.models[str(path) if name in self.models else name] = str(path)
            self.model.reset_choices()
        self.model.value = str(path)

    @told
    def segment(self) -> None:
        """Begins to segment the chosen layer."""
        if (layer := self.image.value) is None:
            raise DataError("There is no image: open one, or one of the samples.")
        look = Look(
            self.background.value, self.diameter.value or "auto", self.pixel_size.value or None, self.channel.value
        )
        pixels = layer.data[0] if layer.multiscale else layer.data
        self.stop.clear()
        worker = _work(pixels, layer.rgb, self.model.value, look, self._report)
        worker.returned.connect(lambda found: self._show(layer, found))
        worker.errored.connect(self._failed)
        worker.finished.connect(lambda: self._working(False))
        self._working(True)
        self.say(f"Segmenting {layer.name} ...")
        worker.start()

    def labels_of(self, layer: Any) -> Any:
        """The labels layer of an image layer; None before it was segmented."""
        named = [other for other in self.viewer.layers if isinstance(other, Labels)]
        return next((other for other in named if other.metadata.get("image") == layer.name), None)

    def shown_plane(self, layer: Any) -> tuple[int, ...]:
        """Which plane of a layer is shown."""
        labels = self.labels_of(layer)
        steps = self.viewer.dims.current_step[-labels.data.ndim :]
        return tuple(steps[: labels.data.ndim - 2])

    @told
    def show_next(self) -> None:
        """Moves the camera to the next object that is doubtful and still there."""
        layer = self.image.value
        if layer is None or (labels := self.labels_of(layer)) is None:
            raise DataError("Nothing is segmented yet: choose an image, and segment it.")
        seen = labels.metadata["seen"]
        while found := next_doubtful(labels.features, seen):
            number, centre = found
            seen.add(number)
            # Those that were removed meanwhile are not doubtful any more.
            if (labels.data[tuple(round(place) for place in centre[:-2])] == number).any():
                break
        else:
            self.say("That was the last one: keep the image as a training pair.")
            return
        labels.selected_label = number
        self.viewer.layers.selection.active = labels
        world = labels.data_to_world(centre)
        self.viewer.dims.set_point(range(len(world) - 2), world[:-2]) if len(world) > 2 else None
        camera = self.viewer.scene.camera
        camera.center = world[-2:]
        area = labels.features.loc[labels.features["index"] == number, "area"].item()
        camera.zoom = min(ACROSS / area**0.5, CLOSEST) / float(labels.scale[-1])
        left = int(np.isfinite(labels.features["score"]).sum()) - len(seen)
        self.say(f"Object {number}, score {labels.metadata['scores'][number]:.2f}: correct it. {left} more.")

    @ensure_main_thread
    def _progress(self, share: float) -> None:
        self.progress.value = round(100 * share)

    def _report(self, share: float) -> None:
        if self.stop.is_set():
            raise StoppedError
        self._progress(share)

    def _working(self, working: bool) -> None:
        self.run.enabled, self.end.enabled = not working, working
        self.progress.value = 0

    def _show(self, layer: Any, found: Segmented | None) -> None:
        if found is None:
            self.say("Stopped: nothing was changed.")
            return
        base = found.labels.copy()
        labels = self.labels_of(layer)
        if labels and labels.data.shape == base.shape:
            found, base = keep_corrections(found, labels.metadata["found"], labels.data)
        table = features(found.labels, found.scores)
        state = {"image": layer.name, "scores": found.scores, "found": base, "seen": set()}
        if labels:
            labels.data, labels.features, labels.metadata = found.labels, table, state
        else:
            place = {key: getattr(layer, key) for key in ("scale", "translate", "units")}
            labels = self.viewer.add_labels(
                found.labels, name=f"{layer.name} labels", features=table, metadata=state, opacity=0.6, **place
            )
            usual = np.median(table["area"]) ** 0.5 if len(table["area"]) else 0
            labels.contour = max(1, round(usual / OUTLINES))
        notes = f" ({'; '.join(found.notes)})" if found.notes else ""
        own = len(table["index"]) - len(found.scores)
        self.say(f"{len(found.scores)} objects{f' and {own} of yours' if own else ''}{notes}.")

    @told
    def _failed(self, error: Exception) -> None:
        raise error if isinstance(error, DataError) else DataError(f"Karyon fails on it ({error}): please report that.")

    def _take_pixel_size(self, layer: Any) -> None:
        if layer is not None and str(layer.units[-1]) in ("micrometer", "um", "µm"):
            self.pixel_size.value = float(layer.scale[-1])


@thread_worker  # type: ignore[untyped-decorator]
def _work(pixels: Any, rgb: bool, model: str, look: Look, report: Callable[[float], None]) -> Segmented | None:
    try:
        return segment_layer(pixels, rgb, cached_model(model), look, report)
    except StoppedError:
        return None


def _image_choice() -> Any:
    """A list of the viewer's image layers; what magicgui makes of an annotation has no type of its own."""
    return create_widget(annotation=Image, label="image")
