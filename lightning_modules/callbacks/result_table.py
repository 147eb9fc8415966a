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


def result_table(metrics: Mapping[str, Tensor], stage: str) -> Table:
    """Lays the main metrics out: a row a metric, a column for all images and for each image type.

    Args:
        metrics: keys ``<stage>/<metric>`` and ``<stage>/<metric>/<image type>``.
        stage: ``val`` or ``test``.
    """
    score = f"{stage}/dsb_score/"
    kinds = sorted(key.removeprefix(score) for key in metrics if key.startswith(score))
    kinds = kinds if len(kinds) > 1 else []
    table = Table(title=f"Results ({stage})")
    table.add_column("")
    for heading in ("all images", *kinds):
        table.add_column(heading, justify="right")
    suffixes = ["", *(f"/{kind}" for kind in kinds)]
    rows = ROWS | MEMBRANE_ROWS if f"{stage}/v_rand" in metrics else ROWS
    for title, key in DETECTION_ROWS.items():
        if f"{stage}/{key}" in metrics:
            table.add_row(title, f"{float(metrics[f'{stage}/{key}']):.4f}")
    for title, key in rows.items():
        table.add_row(title, *(f"{float(metrics[f'{stage}/{key}{suffix}']):.4f}" for suffix in suffixes))
    counts = [
        f"{int(metrics[f'{stage}/objects_found{suffix}'])} / {int(metrics[f'{stage}/objects_true{suffix}'])}"
        for suffix in suffixes
    ]
    table.add_row("objects found / true", *counts)
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
