"""What results can be written as."""

from typing import Literal

Format = Literal[
    "labels",
    "overlays",
    "scores",
    "jet",
    "rois",
    "geojson",
    "coco",
    "objects",
    "parquet",
    "run_lengths",
    "probability",
    "membranes",
    "zarr",
]
DEFAULT: tuple[Format, ...] = ("labels", "overlays", "objects", "run_lengths")
