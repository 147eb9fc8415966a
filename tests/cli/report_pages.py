"""Runs made up for a report, and what a browser would read on its page."""

import csv
import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from lightning_modules.callbacks.score_tables import IMAGE_COLUMNS, OBJECT_COLUMNS

# Name, type, size, numbers of true and found objects, score, true positives.
IMAGES: list[list[Any]] = [
    ["all right", "fluorescence", 64, 80, 2, 2, "1.0000", *[2] * 10],
    ["one right", "fluorescence", 64, 64, 2, 2, "0.3333", *[1] * 10],
    ["none found", "purple-on-white", 32, 32, 1, 0, "0.0000", *[0] * 10],
]
OBJECTS: list[list[Any]] = [
    ["all right", 1, 0.9, 1.0],
    ["all right", 2, 0.8, 0.6],
    ["one right", 1, 0.4, 0.9],
    ["one right", 2, 0.2, 0.0],
]
CURVES: list[list[Any]] = [
    ["step", "train/loss_step", "train/loss_epoch", "val/loss", "val/dsb_score"],
    [49, 0.9, "", "", ""],
    [99, "", 0.8, "", ""],
    [99, "", "", 0.7, 0.25],
    [199, "", 0.5, 0.6, 0.4321],
    [299, "", 0.4, 0.65, 0.4],
]
METRICS = {
    "test/dsb_score": 0.4444,
    "test/accuracy": 0.9,
    "test/dsb_score/fluorescence": 0.6667,
    "test/dsb_score/purple-on-white": 0.0,
    "test/objects_true/fluorescence": 4.0,
    "test/objects_true/purple-on-white": 1.0,
}
CONFIG = {
    "model": {
        "class_path": "lightning_modules.segmenter.DenseSegmenter",
        "init_args": {"network": {"class_path": "karyon.networks.unet.UNet"}},
    },
    "data": {"class_path": "datamodules.dsb2018.DSB2018DataModule", "init_args": {"manifest": "dsb2018.csv"}},
    "checkpoint": {"monitor": "val/dsb_score", "mode": "max"},
}


def made_up_record(name: str, metrics: dict[str, float], command: str = "", **fit: Any) -> dict[str, Any]:
    """A record as a tested run leaves it."""
    provenance = {
        "command": f"python -m cli fit --config configs/reference/{name}.yaml {command}".strip(),
        "date": "2026-01-02T03:04:05+00:00",
        "commit": "0123456789ab",
        "seed": 42,
        "hardware": "CPU, 2 cores",
        "wall_s": 4350.0,
    }
    training = {
        "model": "DenseSegmenter",
        "parameters": 1941105,
        "epochs": 40,
        "max_epochs": 40,
        "steps": 8700,
        "interrupted": False,
        "precision": "32-true",
    }
    tested = {"checkpoint": f"runs/{name}/version_0/checkpoints/best.ckpt", "metrics": metrics}
    return {"fit": provenance | training | fit, "test": provenance | tested}


def leave_run(folder: Path, metrics: dict[str, float] | None = None, **test: Any) -> Path:
    """A folder as a run leaves it that was trained and tested."""
    (folder / "overlays").mkdir(parents=True)
    record = made_up_record("r3-unet", METRICS | (metrics or {}), peak_memory_gib=1.5)
    record["test"] |= {"checkpoint": "nowhere/checkpoints/best.ckpt", "peak_memory_gib": 2.25} | test
    (folder / "record.json").write_text(json.dumps(record))
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    write_table(folder / "metrics.csv", CURVES[0], CURVES[1:])
    write_table(folder / "image_scores.csv", IMAGE_COLUMNS, IMAGES)
    write_table(folder / "object_scores.csv", OBJECT_COLUMNS, OBJECTS)
    for name, *_, score in (row[:7] for row in IMAGES):
        Image.new("RGB", (1548, 536), (40, 90, 120)).save(folder / "overlays" / f"{float(score):.3f}-{name}.png")
    return folder


def write_table(path: Path, columns: Any, rows: Any) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


@dataclass
class Element:
    tag: str = ""
    attributes: dict[str, str | None] = field(default_factory=dict)
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def all(self, *tags: str) -> list["Element"]:
        """The elements below, in their order: of some tags, or all."""
        below = [found for child in self.children for found in (child, *child.all())]
        return [element for element in below if not tags or element.tag in tags]

    def words(self) -> str:
        """All text inside, without surplus white space."""
        return " ".join(self.text.split())

    def rows(self) -> list[list[str]]:
        """The cells of a table's body."""
        return [[cell.words() for cell in row.all("th", "td")] for body in self.all("tbody") for row in body.all("tr")]


class Page(HTMLParser, Element):
    """A page as a parser of HTML understands it; elements that are not closed are an error."""

    def __init__(self, path: Path) -> None:
        HTMLParser.__init__(self)
        Element.__init__(self)
        self.stack: list[Element] = [self]
        self.feed(path.read_text(encoding="utf-8"))
        assert len(self.stack) == 1, f"<{self.stack[-1].tag}> is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.stack[-1].children.append(element)
        if tag not in ("meta", "link", "img", "br"):
            self.stack.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop().tag == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        for element in self.stack:
            element.text += data

    def section(self, name: str) -> Element:
        return next(element for element in self.all("section") if element.attributes["id"] == name)

    def table(self, section: str, caption: str = "") -> Element:
        """The first table of a section, or the one whose caption begins so."""
        return next(t for t in self.section(section).all("table") if t.all("caption")[0].words().startswith(caption))
