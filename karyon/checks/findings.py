"""What speaks against training on a data set as it is: each finding is one sentence that says what to do about it."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from karyon.checks.duplicates import duplicate_groups
from karyon.checks.image_facts import Facts, Objects
from karyon.commands.console import counted, named

WHITE = (255, 65535)
SIXTEEN_BIT = 65535
EXACT = 2**24  # augmentation warps label images as float32, which tells ids up to here apart
MOST = 1 / 2  # of the objects
SAME = 0.98  # correlation; see `karyon.checks.image_facts.pattern`

Severity = Literal["error", "hint"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or odd.

    Attributes:
        kind: a short name.
        severity: ``error`` for what ends a training or spoils its figures, ``hint`` for what may be meant so.
        sentence: how many files and the first of them, what is wrong and what to do.
        images: all of them, as `karyon.checks.image_facts.Facts` calls them.
    """

    kind: str
    severity: Severity
    sentence: str
    images: tuple[str, ...] = ()


def finding(
    kind: str, severity: Severity, found: Sequence[Facts], what: str, advice: str, noun: str = "image", files: str = ""
) -> list[Finding]:
    """A finding on some images, or none where there are none.

    Args:
        kind, severity: see `Finding`.
        found: the images.
        what: is wrong with them; it stands after their number, which may be one.
        advice: what to do.
        noun: what they are, ``image`` or ``label image``.
        files: how to name them; by the first few by default.
    """
    if not found:
        return []
    names = [facts.image if noun == "image" else facts.labels for facts in found]
    sentence = f"{counted(len(found), noun)} {what} ({files or named(names)}): {advice}"
    return [Finding(kind, severity, sentence, tuple(facts.image for facts in found))]


def annotated(images: Sequence[Facts]) -> list[tuple[Facts, Objects]]:
    """The images with an object at least, and their objects."""
    return [(facts, facts.objects) for facts in images if facts.objects is not None and len(facts.objects)]


def cut_share(images: Sequence[Facts]) -> float:
    """The share of all objects that touch their image's border."""
    total = sum(len(objects) for _, objects in annotated(images))
    return sum(int(objects.cut.sum()) for _, objects in annotated(images)) / (total or 1)


def refused(images: Sequence[Facts]) -> list[Finding]:
    """Files that cannot be read or are not label images: a finding for each cause."""
    causes: dict[str, list[tuple[Facts, str]]] = defaultdict(list)
    for facts in images:
        if facts.refusal:
            causes[facts.refusal.cause].append((facts, facts.refusal.sentence))
    findings = []
    for found in causes.values():
        sentence = found[0][1]
        # The sentence tells which of the two files it is about.
        others = [facts.labels if facts.labels in said else facts.image for facts, said in found[1:]]
        if others:
            sentence = f"{sentence.removesuffix('.')}; so it is with {len(others):,} more ({named(others)})."
        findings.append(Finding("refused", "error", sentence, tuple(facts.image for facts, _ in found)))
    return findings


def sizes(images: Sequence[Facts]) -> list[Finding]:
    """Label images of another size than their images."""
    found = [facts for facts in images if facts.labels_size not in (None, facts.size)]
    files = named([f"{facts.labels} {_px(facts.labels_size)}, the image {_px(facts.size)}" for facts in found])
    advice = "export image and labels at one size."
    return finding("size", "error", found, "of another size than the image", advice, "label image", files)


def _px(size: tuple[int, int] | None) -> str:
    return " x ".join(map(str, size or ())) + " px"


def masks(images: Sequence[Facts]) -> list[Finding]:
    """Masks, of the foreground or of classes, in place of label images: no value is a single object."""
    found = [facts for facts, objects in annotated(images) if (objects.pieces > 1).all()]
    what = "in which each value covers several separate regions, as in a mask"
    advice = "give every object a number of its own (skimage.measure.label does)."
    return finding("mask", "error", found, what, advice, "label image")


def single_objects(images: Sequence[Facts]) -> list[Finding]:
    """What may be masks of touching objects: one region, in white or in all label images."""
    holding = annotated(images)
    single = [(facts, objects) for facts, objects in holding if len(objects) == 1 and objects.pieces[0] == 1]
    in_all = len(single) == len(holding) > 2
    found = [facts for facts, objects in single if in_all or objects.ids[0] in WHITE]
    advice = "fine if there is but one; if these are masks in which objects touch, number every object."
    return finding("single-object", "hint", found, "with one object alone", advice, "label image")


def torn(images: Sequence[Facts]) -> list[Finding]:
    """Ids that several separate regions share: drawn so, or counted beyond what the bit depth holds."""
    found = [(facts, objects) for facts, objects in annotated(images) if 0 < (objects.pieces > 1).mean() < 1]
    wrapped = [facts for facts, objects in found if objects.ids.max() in WHITE]
    drawn = [(facts, objects) for facts, objects in found if objects.ids.max() not in WHITE]
    number = sum(int((objects.pieces > 1).sum()) for _, objects in drawn)
    return finding(
        "wrapped",
        "error",
        wrapped,
        "with more objects than its bit depth has numbers, so that objects share one",
        "save them again with 16 bit, or with 32 bit above 65,535 objects.",
        "label image",
    ) + finding(
        "torn",
        "hint",
        [facts for facts, _ in drawn],
        f"with numbers that cover several separate regions, {number:,} in all",
        "training takes each region for an object, evaluation all for one; number those apart that are objects.",
        "label image",
    )


def empty(images: Sequence[Facts]) -> list[Finding]:
    """Label images without an object."""
    found = [facts for facts in images if facts.objects is not None and not len(facts.objects)]
    if not annotated(images):
        what, advice = "without an object, and no other has one", "annotate some, or see whether the export failed."
        return finding("empty", "error", found, what, advice, "label image")
    advice = "fine if there is none; annotate or remove the images otherwise."
    return finding("empty", "hint", found, "without an object", advice, "label image")


def unknown(images: Sequence[Facts]) -> list[Finding]:
    """Label images in which something is marked as not annotated."""
    found = [facts for facts in images if facts.unknown]
    share = sum(facts.unknown for facts in found) / (len(found) or 1)
    what = f"with parts that are not annotated (-1), {share:.0%} of them"
    return finding(
        "unknown", "hint", found, what, "fine if it is meant so: loss and scores leave them out.", "label image"
    )


def numbers(images: Sequence[Facts]) -> list[Finding]:
    """More objects than 16 bit number, and ids that augmentation cannot tell apart."""
    crowded = [facts for facts, objects in annotated(images) if len(objects) > SIXTEEN_BIT]
    beyond = [facts for facts, objects in annotated(images) if objects.ids.max() > EXACT]
    return finding(
        "many-objects",
        "hint",
        crowded,
        f"with more than {SIXTEEN_BIT:,} objects",
        "keep them as TIFF of 32 bit, as 16 bit number no more, and cut images and labels into tiles.",
        "label image",
    ) + finding(
        "ids",
        "error",
        beyond,
        f"with ids above {EXACT:,}, which augmentation cannot tell apart",
        "number the objects from 1 (skimage.segmentation.relabel_sequential does).",
        "label image",
    )


def border(images: Sequence[Facts]) -> list[Finding]:
    """Images of which the border cuts most objects, where that holds of the data set as a whole."""
    share = cut_share(images)
    found = [facts for facts, objects in annotated(images) if objects.cut.mean() > MOST] if share > MOST else []
    what = f"with most objects cut by the border, {share:.0%} of all objects"
    advice = "sizes and counts will be those of fragments; take larger fields of view where there are any."
    return finding("border", "hint", found, what, advice)


def channels(images: Sequence[Facts]) -> list[Finding]:
    """Grey and colour images in one data set."""
    advice = "fine if microscopes differ, as grey is repeated or colour made grey; convert what was exported wrongly."
    return _mixed("channels", images, lambda facts: "grey" if facts.channels == 1 else "in colour", advice)


def bit_depths(images: Sequence[Facts]) -> list[Finding]:
    """Images of several types in one data set."""
    advice = "normalise by karyon.preprocessing.PercentileNormalize, to which it is all one, or save all alike."
    return _mixed("bit-depth", images, lambda facts: f"of {facts.dtype}", advice)


def _mixed(kind: str, images: Sequence[Facts], of: Callable[[Facts], str], advice: str) -> list[Finding]:
    groups: dict[str, list[Facts]] = defaultdict(list)
    for facts in images:
        # Little is known of an image that is refused.
        if not facts.refusal:
            groups[of(facts)].append(facts)
    (most, usual), *others = sorted(groups.items(), key=lambda group: -len(group[1])) or [("", [])]
    return [
        found
        for name, group in others
        for found in finding(kind, "hint", group, f"{name} where {len(usual):,} are {most}", advice)
    ]


def constant(images: Sequence[Facts]) -> list[Finding]:
    """Images in which nothing can be seen."""
    found = [facts for facts in images if facts.constant]
    return finding("constant", "hint", found, "of one value throughout", "export them again, or remove them.")


def duplicates(images: Sequence[Facts]) -> list[Finding]:
    """Images of one field of view, whatever their format, bit depth and contrast, in one part of the split or two."""
    seen = [(facts, facts.pattern) for facts in images if facts.pattern is not None]
    if not seen:
        return []
    firsts = duplicate_groups([str(k) for k in range(len(seen))], [pattern for _, pattern in seen], SAME)
    groups: dict[str, list[Facts]] = defaultdict(list)
    for first, (facts, _) in zip(firsts.values(), seen, strict=True):
        groups[first].append(facts)
    same = [group for group in groups.values() if len(group) > 1]
    across = [group for group in same if len({facts.part for facts in group}) > 1]
    within = [group for group in same if len({facts.part for facts in group}) == 1]
    advice = "keep one of each, or give them to one part; else what is tested on has been trained on."
    return _same_fields("leak", "error", across, "in several parts of the split", advice) + _same_fields(
        "duplicate", "hint", within, "in one part", "keep one of each, so that none counts twice."
    )


def _same_fields(kind: str, severity: Severity, groups: list[list[Facts]], where: str, advice: str) -> list[Finding]:
    files = named([" = ".join(f"{facts.image} in {facts.part}" for facts in group) for group in groups])
    what = f"of {counted(len(groups), 'field')} of view {where}, be it in another format or contrast"
    return finding(kind, severity, [facts for group in groups for facts in group], what, advice, files=files)


CHECKS: tuple[Callable[[Sequence[Facts]], list[Finding]], ...] = (
    refused,
    sizes,
    masks,
    torn,
    duplicates,
    numbers,
    empty,
    unknown,
    single_objects,
    constant,
    channels,
    bit_depths,
    border,
)
