"""COCO's layout: one JSON file with the outlines of all images."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from karyon.errors import DataError
from karyon.io.encoding import coco
from karyon.io.reading import IMAGE_SUFFIXES, read_bytes
from karyon.io.results_folder import join_coco
from karyon.labels import LabelImage
from karyon.layouts.files import composed
from karyon.layouts.protocol import AnnotatedImage, LayoutWriter, Size
from karyon.layouts.regions import Spans, counts_spans, paint, polygon_spans
from karyon.layouts.writing import PairWriter, prediction


@dataclass(frozen=True)
class Coco:
    """Images anywhere below a folder, and a JSON file in it or in ``annotations/``; or the path of that file.

    ::

        coco.json     images (id, file_name), annotations (image_id, segmentation)
        images/...

    A segmentation is run lengths, as numbers or as text, or polygons, which together are the object: COCO's polygons
    have no holes. Ids follow the order of an image's annotations, and where objects overlap, the later one owns the
    pixels. Categories and scores are left aside, and crowd regions, which are not one object, are background. An image
    without annotations holds no object.

    Source: https://cocodataset.org/#format-data
    """

    @property
    def writer(self) -> LayoutWriter:
        return _CocoWriter("images/{name}{suffix}", "coco/{name}.json", _encode)

    def matches(self, root: Path) -> bool:
        return bool(_annotation_files(root))

    def images(self, root: Path) -> list[AnnotatedImage]:
        path = _only_file(root)
        top = root if root.is_dir() else path.parent.parent if path.parent.name == "annotations" else path.parent
        files = _files_by_name(top)
        images: dict[str, AnnotatedImage] = {}
        for listed in _read(path):
            name = listed.file_name.with_suffix("").as_posix()
            if name in images:
                raise DataError(f"{path} lists two images named {name}: rename or remove one.")
            file, problem = _find(listed.file_name, top, path, files)
            labels = partial(_labels, path, listed)
            images[name] = AnnotatedImage(name, file, partial(read_bytes, file), labels, problem)
        if not images:
            raise DataError(f"{path} lists no image: expected images with an id and a file_name.")
        return [images[name] for name in sorted(images)]


class _CocoWriter(PairWriter):
    """Writes a COCO file for each image and joins them at the end."""

    def finish(self, folder: Path, names: Sequence[str]) -> None:
        join_coco([folder / self.completing(name) for name in names], folder / "coco.json")


def _encode(image: AnnotatedImage, labels: LabelImage) -> bytes:
    return coco(prediction(image, labels))


@dataclass(frozen=True)
class _Listed:
    """An image of the JSON file, and its annotations."""

    file_name: PurePosixPath
    annotations: list[dict[str, Any]] = field(default_factory=list)


def _annotation_files(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.suffix.lower() == ".json" else []
    paths = sorted([*root.glob("*.json"), *root.glob("annotations/*.json")])
    # JSON of other kinds may lie there too; to parse large files takes seconds.
    return [path for path in paths if _mentions(path, b'"images"', b'"annotations"')]


def _mentions(path: Path, *keys: bytes) -> bool:
    data = read_bytes(path)
    return all(key in data for key in keys)


def _only_file(root: Path) -> Path:
    paths = _annotation_files(root)
    if not paths:
        raise DataError(
            f"{root} holds no COCO file: expected a .json with images and annotations, there or in annotations/."
        )
    if len(paths) > 1:
        names = ", ".join(path.relative_to(root).as_posix() for path in paths)
        raise DataError(f"{root} holds several COCO files ({names}): name one of them in place of the folder.")
    return paths[0]


def _read(path: Path) -> list[_Listed]:
    listed: dict[Any, _Listed] = {}
    try:
        content = json.loads(read_bytes(path))
        for image in content["images"]:
            listed[image["id"]] = _Listed(PurePosixPath(image["file_name"].replace("\\", "/")))
        for annotation in content["annotations"]:
            if not annotation.get("iscrowd"):
                listed[annotation["image_id"]].annotations.append(annotation)
    # RecursionError: brackets within brackets.
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} is not a COCO file ({error or type(error).__name__}): expected JSON with images (id, file_name) "
            "and annotations (image_id of one of them, segmentation)."
        ) from None
    for image in listed.values():
        if image.file_name.is_absolute() or {"..", ""} & {*image.file_name.parts, image.file_name.name}:
            raise DataError(f"{path} lists {image.file_name}, which leaves the folder: give names below it.")
    return list(listed.values())


def _files_by_name(top: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for path in sorted(top.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            files.setdefault(composed(path.name), []).append(path)
    return files


def _find(name: PurePosixPath, top: Path, listing: Path, files: dict[str, list[Path]]) -> tuple[Path, str]:
    """Where the file of that name lies, and what is wrong where that is not clear."""
    same = files.get(composed(name.name), [])
    usual = {composed(str(folder / name)) for folder in (top, top / "images", listing.parent)}
    found = [path for path in same if composed(str(path)) in usual]
    found = found or [path for path in same if composed(f"/{path.as_posix()}").endswith(composed(f"/{name}"))]
    if not found:
        return top / name, f"{listing} lists {name}, which is not below {top}: put it there, or remove its entry."
    if len(found) > 1:
        return found[0], f"{listing} lists {name}, which could be {found[0]} or {found[1]}: remove or rename one."
    return found[0], ""


def _labels(path: Path, listed: _Listed, size: Size) -> LabelImage:
    def name(annotation: dict[str, Any]) -> str:
        return f"{path}: annotation {annotation.get('id')} of {listed.file_name}"

    return paint(((name(entry), _spans(entry, size, name(entry))) for entry in listed.annotations), size)


def _spans(annotation: dict[str, Any], size: Size, name: str) -> Spans:
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict) and "counts" in segmentation:
        if segmentation.get("size") != list(size):
            raise DataError(
                f"{name} is of an image of {segmentation.get('size')} px (height, width), not {list(size)}: export the "
                "annotations anew."
            )
        return counts_spans(segmentation["counts"], size, name)
    if not isinstance(segmentation, list) or not segmentation:
        raise DataError(
            f"{name} has no outline: expected a segmentation by polygons or run lengths; a box is not enough."
        )
    try:
        rings = [np.reshape(polygon, (-1, 2)) for polygon in segmentation]
    except (ValueError, TypeError):
        raise DataError(f"{name} has polygons that are none: expected lists of x, y, x, y, ... in px.") from None
    return np.concatenate([polygon_spans([ring], size, name) for ring in rings])
