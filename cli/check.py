"""``python -m cli check``: looks for what would end a long training or spoil its figures, before it begins."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from cli.check_subject import Subject, of_config, of_folder
from cli.progress import tracked
from datamodules.base import Item
from datamodules.checks import CHECKS, Finding, annotated, counted, cut_share
from datamodules.reading import Pixels, read_image
from datamodules.sample import DataError
from datamodules.survey import Facts, survey
from lightning_modules.contact_sheet import Cell, contact_sheet
from lightning_modules.formats.files import png
from lightning_modules.formats.folder import write_whole, writing_to

SHOWN = 48  # images on the contact sheet
INTERRUPTED = 130  # as shells say it


def check(args: list[str]) -> int:
    """Looks at every image once, says what it has found, and draws a contact sheet.

    Args:
        args: of the command line, after ``check``.

    Returns:
        0 if nothing is wrong, or hints only; 1 if there are errors; 130 after Ctrl-C.

    Raises:
        DataError: there is no such data, or nowhere to write to.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(args)
    configs = [arg for config in options.config or () for arg in ("--config", config)]
    if not configs and (len(rest) != 1 or rest[0].startswith("-")):
        parser.error("name one folder, or a config with --config")
    try:
        subject = of_config([*configs, *rest]) if configs else of_folder(Path(rest[0]))
        items = [item for part in subject.parts.values() for item in part]
        images = list(tracked(survey(subject.parts, subject.normalization), len(items), "Reading"))
        findings = find(subject, images)
        print(summary(images))
        for found in findings:
            print(f"{found.severity}: {found.sentence}")
        with writing_to(options.out):
            options.out.mkdir(parents=True, exist_ok=True)
            _write_sheet(options.out / "contact-sheet.png", dict(zip(images, items, strict=True)), findings)
            if options.json:
                _write_findings(options.out / "findings.json", images, findings)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    severities = Counter(found.severity for found in findings)
    print(f"{counted(severities['error'], 'error')}, {counted(severities['hint'], 'hint')}.")
    return 1 if severities["error"] else 0


def find(subject: Subject, images: Sequence[Facts]) -> list[Finding]:
    """All that there is to say of a data set, errors first."""
    findings = [*subject.findings, *(found for look in CHECKS for found in look(images)), *subject.check(images)]
    if subject.refusal and all(found.severity != "error" for found in findings):
        findings.append(Finding("refused", "error", subject.refusal))
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
        image, labels = [_seen(path) for path in item.files] or [None, None]
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cli check",
        usage="python -m cli check FOLDER | --config FILE [options of fit] [--out FOLDER] [--json]",
        description=f"{__doc__} FOLDER holds images/ and labels/, or the Data Science Bowl's stage1_train; --config "
        "takes the data as fit would, and checks crops, batches and anchors too. Exit code: 0 nothing is wrong, or "
        "hints only; 1 errors; 2 nothing can be checked; 130 interrupted.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="append", help="of a run; further options as for fit")
    parser.add_argument("--out", type=Path, default=Path("check"), help="folder for contact-sheet.png")
    parser.add_argument("--json", action="store_true", help="write findings.json as well, with the names of all files")
    return parser
