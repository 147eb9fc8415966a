"""One image's result as a file of one format: pure functions from a prediction to the file's content.

In each format an object carries the id that it has in the label image.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any, Literal

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from roifile import ROI_TYPE, ImagejRoi

from karyon.errors import DataError
from karyon.instances import Prediction
from karyon.io.lazy_image import Image
from karyon.io.object_groups import groups, runs_of
from karyon.io.outlines import Polygon, outlines
from karyon.labels import LabelImage
from karyon.pictures.overlay import side_by_side
from karyon.planes import PixelSize

# By which QuPath lists and shows them, and lets them be selected together.
PYRAMID, SMALLEST_LEVEL, TILE = 2**26, 10, 512  # px of a label image, from which on; 2^10 px; px
CLASSIFICATION = {"name": "object", "color": [255, 204, 51]}


def label_tiff(labels: LabelImage, pixel_size: PixelSize | None = None) -> bytes:
    """A label image as TIFF: 16 bit, 32 where an id is above 65,535, signed where something is not annotated (-1).

    A large one is a pyramid of tiles, whose lower resolutions are SubIFDs of every second pixel.
    """
    kinds = (np.uint16, np.uint32) if labels.min(initial=0) >= 0 else (np.int32, np.int32)
    dtype = np.dtype(kinds[int(labels.max(initial=0) >= 2**16)])
    levels = max(0, (max(labels.shape) - 1).bit_length() - SMALLEST_LEVEL) if labels.size > PYRAMID else 0
    options: dict[str, Any] = {"compression": "zlib", "photometric": "minisblack", "metadata": None}
    file = io.BytesIO()
    if not levels:
        tifffile.imwrite(file, labels.astype(dtype), **options, **resolution(pixel_size))
        return file.getvalue()
    with tifffile.TiffWriter(file, bigtiff=True) as writer:
        for level in range(levels + 1):
            part = labels[:: 2**level, :: 2**level]
            place: dict[str, Any] = {"subfiletype": 1} if level else {"subifds": levels}
            size = pixel_size and PixelSize(pixel_size.x * 2**level, pixel_size.y * 2**level)
            options |= {"shape": part.shape, "dtype": dtype, "tile": (TILE, TILE)}
            writer.write(_tiles(part, dtype), **options, **place, **resolution(size))
    return file.getvalue()


def _tiles(labels: LabelImage, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """The tiles of a TIFF, made one by one."""
    for top in range(0, labels.shape[0], TILE):
        for left in range(0, labels.shape[1], TILE):
            part = labels[top : top + TILE, left : left + TILE]
            yield np.pad(part, [(0, TILE - side) for side in part.shape]).astype(dtype)


def probability_tiff(probability: NDArray[np.float32] | None, pixel_size: PixelSize | None = None) -> bytes:
    """A probability as TIFF of single precision.

    Raises:
        DataError: the model gives none.
    """
    if probability is None:
        raise DataError("The model gives no probability: leave the formats probability and membranes out.")
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        probability.astype(np.float32),
        compression="zlib",
        photometric="minisblack",
        metadata=None,
        **resolution(pixel_size),
    )
    return file.getvalue()


def resolution(pixel_size: PixelSize | None) -> dict[str, Any]:
    """The resolution tags of a TIFF, in pixels a cm, which ImageJ and QuPath turn into um; for `tifffile.imwrite`."""
    if pixel_size is None:
        return {}
    return {"resolution": (1e4 / pixel_size.x, 1e4 / pixel_size.y), "resolutionunit": "CENTIMETER"}


def overlay_png(prediction: Prediction, source: Image, scores: bool = False, filled: bool = False) -> bytes:
    """The input beside the result, with the objects' scores or filled in jet where asked."""
    found = prediction.instances
    size, written = prediction.pixel_size, found.scores if scores else None
    return png(side_by_side(source, found.labels, None, size, written, filled))


def png(pixels: NDArray[Any]) -> bytes:
    """Pixels (H, W) or (H, W, 3 RGB) of 8 or 16 bit as PNG."""
    return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels)[1].tobytes()


def roi_zip(prediction: Prediction) -> bytes:
    """Fiji's ROI set: a traced selection for each object, named by its id; a composite one for parts or holes."""
    file = io.BytesIO()
    plane = prediction.plane
    with zipfile.ZipFile(file, "w") as archive:
        for number, polygons in enumerate(_outlines(prediction), start=1):
            roi = _roi(
                polygons, (prediction.instances.boxes[number - 1] * prediction.factor).round().astype(int).tolist()
            )
            roi.name, roi.position = str(number), plane.position
            if plane.is_hyperstack:
                roi.c_position, roi.z_position, roi.t_position = max(plane.c, 0) + 1, plane.z + 1, plane.t + 1
            # Without the time of day, so that equal results are equal files.
            member = zipfile.ZipInfo(f"{number}.roi")
            member.external_attr = 0o644 << 16
            archive.writestr(member, roi.tobytes(), zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _roi(polygons: list[Polygon], box: list[int]) -> ImagejRoi:
    rings = [ring for polygon in polygons for ring in polygon]
    if len(rings) == 1:
        roi = ImagejRoi.frompoints(rings[0])
        roi.roitype = ROI_TYPE.TRACED
        return roi
    move, line, close = 0, 1, 4
    path: list[float] = []
    for ring in rings:
        steps = np.insert(ring, 0, line, axis=1)
        steps[0, 0] = move
        path += [*steps.ravel().tolist(), close]
    left, top, right, bottom = box
    return ImagejRoi(
        roitype=ROI_TYPE.RECT,
        left=left,
        top=top,
        right=right,
        bottom=bottom,
        shape_roi_size=len(path),
        multi_coordinates=np.array(path, np.float32),
    )


def _outlines(prediction: Prediction) -> Iterator[list[Polygon]]:
    """The polygons of each object, by ascending id, in px of the image in its file."""
    for group in groups(prediction.instances):
        corner = np.array([group.left, group.top])
        for polygons in outlines(group.labels):
            moved = ([ring + corner for ring in polygon] for polygon in polygons)
            # Whole numbers remain such.
            yield [
                polygon if prediction.factor == 1 else [ring * prediction.factor for ring in polygon]
                for polygon in moved
            ]


def geojson(prediction: Prediction, kind: Literal["detection", "annotation"] = "detection") -> bytes:
    """QuPath's objects, each named by its id, with its score as a measurement; annotations can be edited there."""
    return b"".join(geojson_parts(prediction, kind))


def geojson_parts(prediction: Prediction, kind: Literal["detection", "annotation"] = "detection") -> Iterator[bytes]:
    """What `geojson` gives, object by object."""
    yield b'{"type":"FeatureCollection","features":['
    scores = prediction.instances.scores.tolist()
    for number, (polygons, score) in enumerate(zip(_outlines(prediction), scores, strict=True), start=1):
        coordinates = [[[*ring.tolist(), ring[0].tolist()] for ring in polygon] for polygon in polygons]
        single = len(coordinates) == 1
        geometry = {
            "type": "Polygon" if single else "MultiPolygon",
            "coordinates": coordinates[0] if single else coordinates,
            "plane": {"c": prediction.plane.c, "z": prediction.plane.z, "t": prediction.plane.t},
        }
        properties = {
            "objectType": kind,
            "name": str(number),
            "classification": CLASSIFICATION,
            "isLocked": False,
            "measurements": {"id": number, "score": round(score, 4)},
        }
        comma = b"," if number > 1 else b""
        yield comma + _json({"type": "Feature", "geometry": geometry, "properties": properties})
    yield b"]}"


def coco(prediction: Prediction) -> bytes:
    """COCO's annotations of one image: run lengths, column by column, that pycocotools reads."""
    height, width = prediction.size
    instances = prediction.instances
    annotations = []
    for number, runs in enumerate(runs_of(instances), start=1):
        x0, y0, x1, y1 = instances.boxes[number - 1].tolist()
        annotations.append(
            {
                "id": number,
                "image_id": 1,
                "category_id": 1,
                "segmentation": {"size": [height, width], "counts": _counts(runs, height * width)},
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": int(runs[:, 1].sum()),
                "iscrowd": 0,
                "score": round(float(instances.scores[number - 1]), 4),
                # Kept where the annotations of several images are joined under ids of their own.
                "label": number,
            }
        )
    return _json(
        {
            "images": [{"id": 1, "file_name": prediction.name, "height": height, "width": width}],
            "categories": [{"id": 1, "name": "object"}],
            "annotations": annotations,
        }
    )


def _counts(runs: NDArray[np.int64], pixels: int) -> list[int]:
    """Lengths of background and object in turn, from runs (n, 2) of start (from 1) and length."""
    edges = np.stack([runs[:, 0] - 1, runs.sum(1) - 1], axis=1).ravel()
    counts = np.diff(edges, prepend=0, append=pixels).tolist()
    return counts if counts[-1] else counts[:-1]


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
