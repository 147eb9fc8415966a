"""Packs a bundle as BioImage.IO's zoo takes it: what its rdf.yaml says, by the form of model descriptions 0.5."""

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from PIL import Image

from datamodules.drawing import draw_nuclei
from karyon.bundle import ONNX, Card, build_preprocessing, file_entry
from karyon.errors import DataError
from karyon.inference.engines import OnnxEngine
from karyon.inference.onnx_file import OPSET
from karyon.io.reading import read_image
from karyon.io.whole_files import writing_to
from karyon.model import load_model
from karyon.pictures.outlines import colour_neighbours, outline
from karyon.pictures.overlay import display_image
from karyon.preprocessing import PercentileNormalize, Pixels, Preprocessing, to_channels, to_planes
from karyon.preprocessing import resize as resize_image

FORMAT = "0.5.12"
SIDE = 256  # px, of the example and its cover
SMALLEST = 16  # px
RESULTS = ("dsb_score", "ap50", "pq", "aji", "dice", "v_rand", "v_info")

# What a method's maps are, and who has found it.
CHANNELS = {
    "foreground": ["foreground"],
    "border": ["background", "body", "border"],
    "distance": ["foreground", "distance"],
    "star": ["object"],
    "flow": ["flow_down", "flow_right", "foreground"],
}
Citation = dict[str, str]
METHODS: dict[str, Citation] = {
    "flow": {"text": "Flows: Stringer et al. 2021, Cellpose", "doi": "10.1038/s41592-020-01018-x"},
    "star": {"text": "Star-convex shapes: Schmidt et al. 2018, StarDist", "doi": "10.1007/978-3-030-00934-2_30"},
}
DATA: dict[str, Citation] = {
    "dsb2018": {"text": "Data: Caicedo et al. 2019, Data Science Bowl 2018", "doi": "10.1038/s41592-019-0612-7"},
    "isbi2012": {"text": "Data: Arganda-Carreras et al. 2015, ISBI 2012", "doi": "10.3389/fnana.2015.00142"},
    "monuseg": {"text": "Data: Kumar et al. 2017, MoNuSeg", "doi": "10.1109/TMI.2017.2677499"},
}
UNET: Citation = {"text": "U-Net: Ronneberger et al. 2015", "doi": "10.1007/978-3-319-24574-4_28"}


def write_package(folder: Path, card: Card, out: Path, example: Path | None, authors: list[str], trusted: bool) -> None:
    """Writes a bundle as a package of BioImage.IO; unpacked, it still is a bundle.

    Args:
        folder: of the bundle of a dense model, with its file for ONNX Runtime; the package's other files join it.
        card: of the bundle.
        out: the package, a zip file.
        example: an image for the test tensors and the cover; one is drawn by default.
        authors: names.
        trusted: whether code of your own that the bundle names may be run.

    Raises:
        DataError: the example cannot be read or is too small, or the package cannot be written.
    """
    preprocessing = build_preprocessing(card, folder, trusted)
    image = _example(example, preprocessing)
    pixels = to_planes(to_channels(image, preprocessing.channels))[None]
    prepared = preprocessing.parts("example", image, "dark")()[None]
    maps = OnnxEngine(folder / ONNX)(np.ascontiguousarray(prepared))
    np.save(folder / "test_input.npy", np.ascontiguousarray(pixels))
    np.save(folder / "test_output.npy", maps)
    _draw_cover(folder, image, trusted)
    (folder / "README.md").write_text(_readme(card), encoding="utf-8")
    description = _description(folder, card, preprocessing, maps.shape[1], authors)
    (folder / "rdf.yaml").write_text(yaml.safe_dump(description, sort_keys=False, allow_unicode=True), encoding="utf-8")
    with writing_to(out):
        shutil.make_archive(str(out.with_suffix("")), "zip", folder)


def _example(path: Path | None, preprocessing: Preprocessing) -> Pixels:
    """An image of which a package shows what the model makes: (H, W) or (H, W, 3), uint8 or float32."""
    image: Pixels = read_image(path) if path else draw_nuclei(np.random.default_rng(3), (SIDE, SIDE), "fluorescence")[0]
    if min(image.shape[:2]) < 2 * SMALLEST:
        raise DataError(f"{path} is smaller than {2 * SMALLEST} x {2 * SMALLEST} px: choose a larger example.")
    if preprocessing.image_size:
        image = resize_image(np.atleast_3d(image).astype(np.float32), preprocessing.image_size).squeeze()
    else:
        top, left = ((side - min(side, SIDE)) // 2 for side in image.shape[:2])
        image = image[top : top + SIDE, left : left + SIDE]
    if isinstance(preprocessing.normalization, PercentileNormalize):
        return to_channels(image.astype(np.float32), preprocessing.channels).squeeze()
    return np.asarray(to_channels(display_image(image).astype(np.float32), preprocessing.channels).squeeze(), np.uint8)


def _draw_cover(folder: Path, image: Pixels, trusted: bool) -> None:
    """The example, and beside it what is found in it."""
    picture = display_image(image.astype(np.float32))
    labels = load_model(folder, device="cpu", trusted=trusted).segment(image).labels
    found = outline(picture, labels, colour_neighbours(labels))
    Image.fromarray(np.hstack([picture, found])).save(folder / "cover.png")


def _description(folder: Path, card: Card, preprocessing: Preprocessing, maps: int, authors: list[str]) -> Any:
    """What rdf.yaml says."""
    percentiles = isinstance(preprocessing.normalization, PercentileNormalize)
    method = _method(card)
    names = CHANNELS.get(method, [])
    names = names + [f"distance_{k}" if method == "star" else f"map_{k}" for k in range(maps - len(names))]
    unit = {"unit": "micrometer", "scale": card.pixel_size} if card.pixel_size else {}
    sizes = preprocessing.image_size or [{"min": SMALLEST, "step": 1} for _ in "yx"]
    space = [{"type": "space", "id": axis, "size": size, **unit} for axis, size in zip("yx", sizes, strict=True)]
    same = [{**axis, "size": {"tensor_id": "image", "axis_id": axis["id"]}} for axis in space]
    colours = ["red", "green", "blue"] if preprocessing.channels == 3 else ["grey"]
    return {
        "format_version": FORMAT,
        "type": "model",
        "name": f"Karyon {re.sub(r'[^A-Za-z0-9_+() -]', '-', card.name)}"[:64],
        "description": f"Objects in microscope images: {', '.join(names[:4])} of every pixel, by a network of Karyon.",
        "authors": [{"name": name} for name in authors],
        "cite": _citations(card),
        "license": _licence(folder, card.licence),
        "documentation": _file(folder, "README.md"),
        "covers": [_file(folder, "cover.png")],
        "attachments": [_file(folder, "card.json"), _file(folder, card.weights["file"])],
        "tags": ["2d", "pytorch", "instance-segmentation", "unet", *_subject(card)],
        "inputs": [
            {
                "id": "image",
                "axes": [{"type": "batch"}, {"type": "channel", "id": "channel", "channel_names": colours}, *space],
                "data": {"type": "float32"} if percentiles else {"type": "uint8", "range": [0, 255]},
                "preprocessing": _steps(preprocessing.normalization),
                "test_tensor": _file(folder, "test_input.npy"),
            }
        ],
        "outputs": [
            {
                "id": "maps",
                "axes": [{"type": "batch"}, {"type": "channel", "id": "channel", "channel_names": names}, *same],
                "data": {"type": "float32"},
                "test_tensor": _file(folder, "test_output.npy"),
            }
        ],
        "weights": {"onnx": {**_file(folder, ONNX), "opset_version": OPSET}},
        "config": {"karyon": {"postprocessing": card.model["postprocessing"], "version": card.karyon}},
    }


def _steps(normalization: Any) -> list[dict[str, Any]]:
    """A normalisation in the format's words, which has none for inverting bright images alone."""
    if isinstance(normalization, PercentileNormalize):
        ends = {"min_percentile": normalization.low, "max_percentile": normalization.high}
        return [
            {"id": "scale_range", "kwargs": {"axes": ["channel", "y", "x"], **ends}},
            {"id": "clip", "kwargs": {"min": 0.0, "max": 1.0}},
        ]
    return [
        {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
        {"id": "scale_linear", "kwargs": {"gain": 1 / 255, "offset": 0.0}},
    ]


def _file(folder: Path, name: str) -> dict[str, str]:
    return {"source": name, "sha256": file_entry(folder / name)["sha256"]}


def _method(card: Card) -> str:
    """The representation's name: ``flow`` of ``karyon.representations.flow.loss.Flow``."""
    return str(card.model["representation"]["class_path"]).split(".")[-1].lower()


def _datasets(card: Card) -> list[str]:
    named = [card.data, *card.data.get("datasets", [])]
    return [str(data.get("class_path", "")).split(".")[-1].removesuffix("DataModule").lower() for data in named]


def _subject(card: Card) -> list[str]:
    """The zoo's words for what the model has seen; those of one's own images are theirs to add."""
    seen = _datasets(card)
    words = ["electron-microscopy", "cell-membrane", "brain"] if "isbi2012" in seen else []
    return words + (["fluorescence-light-microscopy", "nuclei"] if {"dsb2018", "monuseg"} & {*seen} else [])


def _citations(card: Card) -> list[Citation]:
    """Who has gathered the data, found the method, designed the network."""
    network = "unet" in str(card.model["network"]).lower()
    found = [DATA.get(name) for name in _datasets(card)] + [METHODS.get(_method(card)), UNET if network else None]
    return [citation for citation in found if citation]


def _licence(folder: Path, licence: str) -> Any:
    """The identifier with which a licence begins, where it is one of SPDX; else a file that says it in full."""
    first, _, rest = licence.partition(" ")
    try:
        known = canonicalize_license_expression(first)
        if not known.startswith("LicenseRef") and (not rest or rest.startswith("(")):
            return str(known)
    except InvalidLicenseExpression:
        pass
    (folder / "LICENCE.txt").write_text(licence + "\n", encoding="utf-8")
    return _file(folder, "LICENCE.txt")


def _readme(card: Card) -> str:
    """What the form cannot say: polarity, size, and how maps become objects."""
    text = io.StringIO()
    say = lambda *lines: print(*lines, sep="\n", file=text)  # noqa: E731
    say(f"# {card.name}", "", f"A model of Karyon {card.karyon}; its weights: {card.licence}.", "", "## Input", "")
    say("Two-dimensional images, as they come from the microscope. rdf.yaml says how intensities are scaled.")
    normalization = card.preprocessing["normalization"].get("init_args", {})
    if normalization.get("dark_background"):
        say("Objects must be brighter than what surrounds them: invert other images first.")
    if card.object_diameter:
        say(f"Objects should be about {card.object_diameter:g} px in diameter: resize other images first.")
    if card.preprocessing["image_size"]:
        say("Resize images to the size that rdf.yaml says.")
    say(
        "Grey images: repeat the plane in all three channels."
        if card.preprocessing["channels"] == 3
        else "Grey images."
    )
    say("", "## Output, and objects out of it", "")
    say("The maps that rdf.yaml names, probabilities already where they are some. Objects are found in them by")
    say("Karyon's post-processing, for which the form has no words:", "")
    say("```json", json.dumps(card.model["postprocessing"], indent=1), "```", "")
    say("Unpacked, this package is a bundle of Karyon's, which does all of it, polarity and size included:", "")
    say("```bash", "karyon segment IMAGES --model FOLDER", "```", "", "## Validation", "")
    for stage, scores in card.metrics.items():
        kept = {name: scores[f"{stage}/{name}"] for name in RESULTS if f"{stage}/{name}" in scores}
        say(f"- {stage}: " + ", ".join(f"{name} {value:.3f}" for name, value in kept.items()))
    say("- On images of your own: `python -m cli benchmark` scores the model on annotated ones.")
    return text.getvalue()
