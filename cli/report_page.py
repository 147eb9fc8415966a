"""The parts that a report is made of, and the page that shows them."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image, UnidentifiedImageError

from cli.report_figures import COLOURS
from cli.report_runs import ReportedRun
from datamodules.sample import DataError

TEMPLATES = Path(__file__).parent / "report_template"
PICTURE_WIDTH = 1280  # px


@dataclass(frozen=True)
class Note:
    """A paragraph; text that is no `Markup` is escaped, as everywhere on the page."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: what it shows.
        header: of each column.
        rows: cells of words, numbers as text, or `Markup`.
        words: the number of leading columns that hold words; the others hold numbers and are aligned to the right.
        folded: title under which it is kept folded, or empty.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    folded: str = ""


@dataclass(frozen=True)
class Drawn:
    """A figure: an SVG that says itself what it shows, and a caption."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Picture:
    """A picture of pixels: its address, what it shows, and a caption."""

    address: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Listing:
    """A file's text, folded under a title."""

    title: str
    text: str


@dataclass(frozen=True)
class Heading:
    """Of a part of a section."""

    text: str


Block = Note | Table | Drawn | Picture | Listing | Heading


@dataclass
class Section:
    """A numbered part of the report.

    Attributes:
        id: its address within the page.
        title: its heading.
        blocks: what it shows.
    """

    id: str
    title: str
    blocks: list[Block] = field(default_factory=list)


def named(run: ReportedRun) -> Markup:
    """The name of a run, beside its colour in the figures."""
    return Markup('<span class="run"><span class="chip s{}" aria-hidden="true"></span>{}</span>').format(
        run.place % len(COLOURS), run.label
    )


def strong(text: str) -> Markup:
    """The best of a column."""
    return Markup("<strong>{}</strong>").format(text)


def code(text: str) -> Markup:
    """A command or a path."""
    return Markup("<code>{}</code>").format(text)


def embedded(path: Path) -> str:
    """A picture as the address of its own content, shrunk to the width of the page.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with Image.open(path) as file:
            picture = file.convert("RGB")
    except (OSError, UnidentifiedImageError):
        raise DataError(f"{path} is no readable picture: delete it, or test the run again.") from None
    picture.thumbnail((PICTURE_WIDTH, 4 * PICTURE_WIDTH))
    content = io.BytesIO()
    # Whole colours: outlines are one pixel wide.
    picture.save(content, "JPEG", quality=85, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


def render(title: str, facts: Sequence[str], sections: Sequence[Section]) -> str:
    """The page, which holds all that it needs.

    Args:
        title: of the page.
        facts: what stands under it.
        sections: in their order.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    kinds: dict[str, Any] = {"kind": lambda block: type(block).__name__, "safe": Markup}
    environment.filters.update(kinds)
    return environment.get_template("page.html").render(title=title, facts=facts, sections=sections)
