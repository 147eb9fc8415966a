"""The work of ``check``: looks at every image of a data set, says what it has found, and draws a contact sheet."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from karyon.checks.findings import CHECKS, Finding, annotated, cut_share
from karyon.checks.folders import Parts, find_originals
from karyon.checks.image_facts import Facts, survey
from karyon.checks.object_sizes import View, small_objects
from karyon.commands.console import counted, tracked
from karyon.errors import DataError, printable
from karyon.io.encoding import png
from karyon.io.other_formats import passed_over, unread_below
from karyon.io.reading import Pixels, read_image
from karyon.io.whole_files import write_whole, writing_to
from karyon.layouts.protocol import Item
from karyon.pictures.contact_sheet import Cell, contact_sheet
from karyon.preprocessing import Normalization, PercentileNormalize

SHOWN = 48  # images on the contact sheet


@dataclass(frozen=True)
class CheckedData:
    """A data set to check.

    Attributes:
        parts: its images, by part of the split.
        normalization: that training applies.
        check: what depends on how it is trained on.
        findings: what was found before any image was looked at.
        refusal: what its data module says, where it cannot be set up.
    """

    parts: Parts
    normalization: Normalization
    check: Callable[[Sequence[Facts]], list[Finding]]
    findings: list[Finding] = field(default_factory=list)
    refusal: str = ""


def of_folder(root: Path) -> CheckedData:
    """A folder, to be trained on as ``configs/folder.yaml`` does.

    Raises:
        DataError: it is missing or in no known layout.
    """
    parts, findings = find_originals(root)
    unread = unread_below(root)
    if said := passed_over(unread):
        findings = [*findings, Finding("passed-over", "hint", said, tuple(map(str, unread)))]
    return CheckedData(parts, PercentileNormalize(), lambda images: small_objects(images, View()), findings)


def check_images(data: CheckedData, out: Path, with_file: bool) -> int:
    """Looks at every image once.

    Args:
        data: what to look at.
        out: folder of the contact sheet.
        with_file: whether to write ``findings.json`` as well.

    Returns:
        the exit code: 1 if there are errors, 0 if nothing is wrong, or hints only.

    Raises:
        DataError: there is nowhere to write to.
    """
    items = [item for part in data.parts.values() for item in part]
    images = list(tracked(survey(data.parts, data.normalization), len(items), "Reading"))
    findings = find(data, images)
    print(summary(images))
    for found in findings:
        print(f"{found.severity}: {printable(found.sentence)}")
    with writing_to(out):
        out.mkdir(parents=True, exist_ok=True)
        _write_sheet(out / "contact-sheet.png", dict(zip(images, items, strict=True)), findings)
        if with_file:
            _write_findings(out / "findings.json", images, findings)
    severities = Counter(found.severity for found in findings)
    print(f"{counted(severities['error'], 'error')}, {counted(severities['hint'], 'hint')}.")
    return 1 if severities["error"] else 0


def find(data: CheckedData, images: Sequence[Facts]) -> list[Finding]:
    """All that there is to say of a data set, errors first."""
    findings = [*data.findings, *(found for look in CHECKS for found in look(images)), *data.check(images)]
    if data.refusal and all(found.severity != "error" for found in findings):
        findings.append(Finding("refused", "error", data.refusal))
    return sorted(findings, key=lambda found: found.severity != "error")


def summary(images: Sequence[Facts]) -> str:
    """What there is, in one line."""
    parts = ", ".join(f"{part} {number:,}" for part, number in Counter(facts.part for facts in images).items())
    sides = [objects.sides.max(axis=1) for _, objects in annotated(images)]
    if not sides:
        return f"{counted(len(images), 'image')} ({parts}), no object."
    longer = np.concatenate(sides)
    low, middle, high = np.percentile(longer, (5, 50, 95))
    return (
        f"{counted(len(images), 'image')} ({parts}), {counted(len(longer), 'object')}; longer side of an object: "
        f"median {middle:.0f} px, {low:.0f} to {high:.0f} px for nine in ten, {longer.max()} px at most; "
        f"{cut_share(images):.1%} touch the border of their image."
    )


def _write_sheet(path: Path, items: dict[Facts, Item], findings: Sequence[Finding]) -> None:
    """Draws what was found, and of the rest as many images as there is room for."""
    shown = choose(list(items), findings, SHOWN)
    remarks = {facts: ", ".join(found.kind for found in findings if facts.image in found.images) for facts in shown}
    cells = [Cell(facts.image, *_look(items[facts]), remarks[facts]) for facts in shown]
    if cells:
        write_whole(path, png(contact_sheet(cells)))
        print(f"Wrote {path}: {len(cells)} of {counted(len(items), 'image')}.")


def choose(images: Sequence[Facts], findings: Sequence[Finding], room: int) -> list[Facts]:
    """Images to look at: of each finding an equal share, then of all the others, evenly spread.

    Args:
        images: of the data set.
        findings: in order of importance.
        room: for how many.
    """
    by_name = {facts.image: facts for facts in images}
    share = max(2, room // (len(findings) + 1))
    # Not one by one in turn: images that belong together are to stand together.
    first = [by_name[name] for found in findings for name in found.images[:share] if name in by_name]
    chosen = list(dict.fromkeys(first))[:room]
    others = [facts for facts in images if facts not in chosen]
    spread = np.linspace(0, len(others) - 1, min(room - len(chosen), len(others))).astype(int)
    return chosen + [others[k] for k in spread]


def _look(item: Item) -> tuple[Pixels | None, Pixels | None]:
    """An image and its labels; where they are refused, whatever can be seen of their files."""
    try:
        return item.read()
    except DataError:
        # Some layouts have no file of labels, or none of the image either.
        image, labels, *_ = [*map(_seen, item.files), None, None]
        return image, labels


def _seen(path: Path) -> Pixels | None:
    try:
        return read_image(path)
    except DataError:
        return None


def _write_findings(path: Path, images: Sequence[Facts], findings: Sequence[Finding]) -> None:
    content = {
        "images": len(images),
        "objects": sum(len(objects) for _, objects in annotated(images)),
        "border_share": round(cut_share(images), 4),
        "findings": [asdict(found) for found in findings],
    }
    write_whole(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    print(f"Wrote {path}.")
