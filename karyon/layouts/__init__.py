"""How annotated images lie on disk: each layout is read and written in one file; `all_layouts` lists them."""

from typing import Literal

LayoutName = Literal["karyon", "stardist", "cellpose", "dsb2018", "coco", "qupath", "aperio"]
"""The names of `karyon.layouts.all_layouts.LAYOUTS`, which a command line can list without importing them."""
