"""The small table at the end of a test."""

from collections.abc import Mapping

from rich.table import Table
from torch import Tensor

ROWS = {
    "pixel accuracy": "accuracy",
    "foreground IoU": "iou",
    "mean IoU": "miou",
    "DSB score": "dsb_score",
    "AP (IoU 0.5)": "ap50",
    "aggregated Jaccard": "aji",
    "panoptic quality": "pq",
}
# Only where `MembraneScores` is among the metrics.
MEMBRANE_ROWS = {
    "V_rand, best threshold": "v_rand",
    "V_info, best threshold": "v_info",
    "V_rand, set threshold": "v_rand_fixed",
    "V_info, set threshold": "v_info_fixed",
}
# Only of detectors, and for all images at once.
DETECTION_ROWS = {"box mAP": "box_map", "box AP (IoU 0.5)": "box_map50", "mask mAP": "mask_map"}
# The last two rows.
COUNTS = {"objects found": "objects_found", "true objects": "objects_true"}


def result_rows(metrics: Mapping[str, Tensor], stage: str) -> tuple[list[str], list[tuple[str, list[float]]]]:
    """The main metrics, of all images and of each image type.

    Args:
        metrics: keys ``<stage>/<metric>`` and ``<stage>/<metric>/<image type>``.
        stage: ``val`` or ``test``.

    Returns:
        the columns' headings, and of each row its title and its values, of which those of all images at once have one.
    """
    score = f"{stage}/dsb_score/"
    image_types = sorted(key.removeprefix(score) for key in metrics if key.startswith(score))
    image_types = image_types if len(image_types) > 1 else []
    suffixes = ["", *(f"/{image_type}" for image_type in image_types)]
    detection = {title: key for title, key in DETECTION_ROWS.items() if f"{stage}/{key}" in metrics}
    rows = [(title, [float(metrics[f"{stage}/{key}"])]) for title, key in detection.items()]
    others = ROWS | (MEMBRANE_ROWS if f"{stage}/v_rand" in metrics else {}) | COUNTS
    rows += [
        (title, [float(metrics[f"{stage}/{key}{suffix}"]) for suffix in suffixes]) for title, key in others.items()
    ]
    return ["all images", *image_types], rows


def result_table(metrics: Mapping[str, Tensor], stage: str) -> Table:
    """Lays the main metrics out: a row a metric, a column for all images and for each image type.

    Args:
        metrics: keys ``<stage>/<metric>`` and ``<stage>/<metric>/<image type>``.
        stage: ``val`` or ``test``.
    """
    headings, rows = result_rows(metrics, stage)
    table = Table(title=f"Results ({stage})")
    table.add_column("")
    for heading in headings:
        table.add_column(heading, justify="right")
    *scores, (_, found), (_, true) = rows
    for title, values in scores:
        table.add_row(title, *(f"{value:.4f}" for value in values))
    table.add_row("objects found / true", *(f"{int(f)} / {int(t)}" for f, t in zip(found, true, strict=True)))
    return table


def bounds_table(bounds: Mapping[str, Mapping[str, float]]) -> Table:
    """Lays out what a model of two stages scores with the truth in place of a stage: a row each.

    Args:
        bounds: metrics, without the name of the stage of evaluation before them, of each way to put it together.
    """
    table = Table(title="The truth in place of a stage")
    table.add_column("")
    titles = {title: key for title, key in ROWS.items() if key in ("dsb_score", "ap50", "aji")}
    titles |= {"AP (IoU 0.7)": "ap70", "AP (IoU 0.9)": "ap90"}
    for title in (*titles, "objects found / true"):
        table.add_column(title, justify="right")
    for name, metrics in bounds.items():
        counts = f"{int(metrics['objects_found'])} / {int(metrics['objects_true'])}"
        table.add_row(name, *(f"{metrics[key]:.4f}" for key in titles.values()), counts)
    return table
