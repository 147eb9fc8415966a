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
    "run_lengths",
    "probability",
    "membranes",
]
DEFAULT: tuple[Format, ...] = ("labels", "overlays", "objects", "run_lengths")
