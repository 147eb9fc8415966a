"""Detect, then segment: a trained detector and a trained crop segmenter as one model, which trains nothing itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from karyon.detection.postprocessing import DetectionPostprocessing
from karyon.detection.predictor import DetectionPredictor
from karyon.detection.two_stage import TwoStageNetwork
from karyon.errors import DataError
from lightning_modules.crop_segmenter import CropSegmenter
from lightning_modules.detection import DetectionModule
from lightning_modules.detector import Detector
from lightning_modules.trained_runs import Config, load_trained

Prepared = tuple[int, str, dict[str, Any]]
"""Channels, and class and arguments of the normalisation."""


class TwoStage(DetectionModule):
    """Finds boxes, outlines the nucleus in a crop around each, and pastes the masks back at full resolution.

    Networks, size and margin of the crops are those of the two runs: they are read from the ``config.yaml`` that lies
    beside each checkpoint, so that nothing has to be said twice, nor can be said wrongly.

    Args:
        detector_checkpoint: of a `lightning_modules.detector.Detector`. On the command line a run's folder such as
            ``runs/r1-detector`` stands for the best checkpoint of its newest version.
        segmenter_checkpoint: of a `lightning_modules.crop_segmenter.CropSegmenter`, likewise.
        postprocessing: makes a label image of boxes and masks; holds every parameter of inference.

    Raises:
        DataError: a checkpoint is missing, damaged or of another model, or the two were trained on images that were
            prepared in different ways.
    """

    # Read by the command line, which has no checkpoint of the whole to look for.
    checkpoint_arguments: ClassVar[tuple[str, ...]] = ("detector_checkpoint", "segmenter_checkpoint")

    def __init__(
        self, detector_checkpoint: Path, segmenter_checkpoint: Path, postprocessing: DetectionPostprocessing
    ) -> None:
        super().__init__()
        # For the record of what is measured.
        self.checkpoints = {"detector": Path(detector_checkpoint), "segmenter": Path(segmenter_checkpoint)}
        checkpoints = list(self.checkpoints.values())
        (detector, images), (segmenter, crops) = map(load_trained, checkpoints)
        for checkpoint, module, expected in zip(
            checkpoints, (detector, segmenter), (Detector, CropSegmenter), strict=True
        ):
            if not isinstance(module, expected):
                raise DataError(f"{checkpoint} holds a {type(module).__name__}: name one of a {expected.__name__}.")
        assert isinstance(detector, Detector) and isinstance(segmenter, CropSegmenter)
        size, margin, self.preparation = settled_stages(checkpoints, [images, crops])
        try:
            self.network = TwoStageNetwork(detector.network, segmenter.network, size, margin)
        except ValueError as error:
            raise DataError(f"{segmenter_checkpoint} cannot be a second stage ({error}): train another.") from None
        self.postprocessing = postprocessing
        self.add_coco_metrics(masks=True)

    def setup(self, stage: str) -> None:
        """Compares the images that are coming with those that both stages were trained on.

        Raises:
            DataError: they are prepared in another way.
        """
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if data is not None and (coming := _prepared_by(data.preprocessing)) != self.preparation:
            raise DataError(
                f"The data module prepares images by {_shown(coming)}, but both stages were trained on images prepared "
                f"by {_shown(self.preparation)}: set its channels and normalization to that."
            )

    @property
    def predictor(self) -> DetectionPredictor:
        return DetectionPredictor(self.network, self.postprocessing, self.device)


def settled_stages(checkpoints: Sequence[Path], data: Sequence[Config]) -> tuple[int, float, Prepared]:
    """What two runs say of how their stages work together.

    Args:
        checkpoints: of detector and segmenter, for errors.
        data: the configs of the data modules that they were trained on.

    Returns:
        side and margin of the crops, and how both prepare images.

    Raises:
        DataError: the second was not trained on crops, or the two prepare images in different ways.
    """
    images, crops = data
    try:
        size, margin = crops["init_args"]["crop_size"], crops["init_args"]["margin"]
        others = _preparation(crops["init_args"]["images"])
    except KeyError:
        raise DataError(
            f"{checkpoints[1]} was trained on {crops['class_path']}: train it on "
            "datamodules.crops.CropDataModule, which says how crops are cut."
        ) from None
    if (preparation := _preparation(images)) != others:
        raise DataError(
            f"{checkpoints[0]} was trained on images prepared by {_shown(preparation)}, "
            f"{checkpoints[1]} by {_shown(others)}: train both on the same."
        )
    return size, margin, preparation


def _preparation(data: dict[str, Any]) -> Prepared:
    """How a data module of a config prepares its images."""
    normalization = data["init_args"]["normalization"] or {"class_path": "karyon.preprocessing.ScaleToUnit"}
    if isinstance(normalization, str):
        normalization = {"class_path": normalization}
    return data["init_args"]["channels"], normalization["class_path"], normalization.get("init_args", {})


def _prepared_by(preparation: Any) -> Prepared:
    """How a data module prepares its images, in the same terms."""
    normalization = preparation.normalization
    named = normalization if hasattr(normalization, "__qualname__") else type(normalization)
    return preparation.channels, f"{named.__module__}.{named.__qualname__}", dict(vars(normalization))


def _shown(preparation: Prepared) -> str:
    channels, name, arguments = preparation
    shown = ", ".join(f"{key}={value}" for key, value in arguments.items())
    return f"{name.rpartition('.')[2]}({shown}) with {channels} channels"
