"""Annotation as other tools write it, to be read."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile

SIZE = (20, 30)
LABELS = np.zeros(SIZE, np.uint16)
LABELS[2:8, 2:8], LABELS[2:8, 8:14], LABELS[12:18, 20:29] = 1, 2, 3
IMAGE = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)


def save(path: Path, content: Any) -> Path:
    """Writes an array as TIFF or PNG, anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, np.ndarray):
        path.write_text(json.dumps(content))
    elif path.suffix == ".png":
        path.write_bytes(cv2.imencode(".png", content)[1].tobytes())
    else:
        tifffile.imwrite(path, content)
    return path


def square(left: float, top: float, side: float) -> list[float]:
    return [left, top, left + side, top, left + side, top + side, left, top + side]


def entry(number: int, segmentation: Any, image: int = 1, **further: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": 3, "segmentation": segmentation, **further}


def coco(*annotations: dict[str, Any], names: tuple[str, ...] = ("a.png",)) -> dict[str, Any]:
    images = [{"id": number, "file_name": name} for number, name in enumerate(names, start=1)]
    return {"images": images, "annotations": list(annotations), "categories": [{"id": 3, "name": "nucleus"}]}


def feature(kind: str, coordinates: Any, object_type: str = "annotation") -> dict[str, Any]:
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": {"objectType": object_type}}


def ring(left: float, top: float, side: float) -> list[list[float]]:
    corners = np.reshape(square(left, top, side), (-1, 2)).tolist()
    return [*corners, corners[0]]
