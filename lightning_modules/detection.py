"""What is scored as detections, too: boxes and masks ranked by their scores, before they make a label image."""

from torchmetrics import Metric, MetricCollection

from karyon.batch import Batch, whole_annotation
from karyon.detection.detections import Detections
from karyon.detection.pasting import paste_masks
from karyon.detection.predictor import DetectionPredictor
from karyon.detection.targets import true_boxes
from karyon.instances import Prediction
from karyon.metrics.coco import BoxMeanAveragePrecision, MaskMeanAveragePrecision
from lightning_modules.base import BaseModule, predictions, score


class DetectionModule(BaseModule):
    """Logs COCO's metrics beside those of label images: ``box_map``, and ``mask_map`` of what finds masks.

    A subclass has a `predictor` that detects.
    """

    def add_coco_metrics(self, masks: bool) -> None:
        """Makes the metrics, with those of masks or without."""
        metrics: dict[str, Metric | MetricCollection] = {"boxes": BoxMeanAveragePrecision()}
        if masks:
            metrics["masks"] = MaskMeanAveragePrecision()
        made = MetricCollection(metrics, compute_groups=False)
        self.val_coco, self.test_coco = made.clone("val/"), made.clone("test/")

    def coco_of(self, stage: str) -> MetricCollection:
        """The metrics of detections of ``val`` or ``test``."""
        return self.val_coco if stage == "val" else self.test_coco

    @property
    def predictor(self) -> DetectionPredictor:
        raise NotImplementedError

    def detect(self, batch: Batch) -> list[Detections]:
        """What is found in each image, before it makes a label image."""
        return self.predictor.detect(batch.image, batch.sizes)

    def evaluate(self, batch: Batch, stage: str) -> list[Prediction]:
        whole_annotation(batch)
        found = self.detect(batch)
        postprocessing = self.predictor.postprocessing
        laid_out = [(None, postprocessing(*image)) for image in zip(found, batch.sizes, strict=True)]
        answers = predictions(batch, laid_out)
        score(self.metrics_of(stage), batch, answers)
        coco = self.coco_of(stage)
        for detections, truth, name in zip(found, batch.truths, batch.names, strict=True):
            assert truth is not None, "outside training a batch carries the truths"
            coco["boxes"].update(detections, true_boxes(truth), name)
            if detections.masks is not None:
                size = (truth.shape[0], truth.shape[1])
                pasted = paste_masks(detections.frames, detections.scores, detections.masks, size, 0.5, min_area=1)
                coco["masks"].update(pasted, truth.numpy(), name)
        return answers

    def log_and_reset(self, stage: str) -> None:
        super().log_and_reset(stage)
        coco = self.coco_of(stage)
        self.log_dict(coco.compute())
        coco.reset()
