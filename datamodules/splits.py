"""Seeded, stratified splits that keep duplicates together, recorded as manifests."""

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from karyon.errors import DataError, cannot_write


@dataclass(frozen=True)
class Member:
    """What a split needs to know of an image.

    Attributes:
        name: its identifier.
        digest: SHA-256 of its pixels.
        stratum: the image type to balance over.
        group: members of one group stay on one side (duplicates share it).
    """

    name: str
    digest: str
    stratum: str
    group: str


def split(members: Sequence[Member], fractions: Mapping[str, float], seed: int) -> dict[str, list[str]]:
    """Deals images into named parts, type by type, whole groups at a time.

    The order comes from a hash of the seed and the group, so adding an image to a data set moves few others.

    Args:
        members: the images.
        fractions: each part's share; they must sum to 1. The last part takes what rounding leaves.
        seed: another seed, another split.

    Returns:
        the names of each part, sorted.

    Raises:
        ValueError: the fractions do not sum to 1, or one is negative.

    >>> members = [Member(str(i), "", "a", str(i // 2)) for i in range(10)]
    >>> {part: len(names) for part, names in split(members, {"val": 0.2, "train": 0.8}, seed=1).items()}
    {'val': 2, 'train': 8}
    """
    if not np.isclose(sum(fractions.values()), 1) or min(fractions.values()) < 0:
        raise ValueError(f"The fractions {dict(fractions)} are not shares that sum to 1.")
    strata: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    stratum_of_group: dict[str, str] = {}
    for member in sorted(members, key=lambda member: member.name):
        # A group that spans two types is dealt with the first of them, as a whole.
        stratum = stratum_of_group.setdefault(member.group, member.stratum)
        strata[stratum][member.group].append(member.name)
    parts: dict[str, list[str]] = {part: [] for part in fractions}
    for stratum in sorted(strata):
        groups = sorted(strata[stratum].items(), key=lambda item: _order(seed, item[0]))
        total = sum(len(names) for _, names in groups)
        quotas = np.round(np.cumsum([fractions[part] * total for part in fractions])).astype(int)
        dealt = 0
        for _, names in groups:
            part = list(fractions)[min(int(np.searchsorted(quotas, dealt, side="right")), len(fractions) - 1)]
            parts[part] += names
            dealt += len(names)
    return {part: sorted(names) for part, names in parts.items()}


def _order(seed: int, group: str) -> str:
    return hashlib.sha256(f"{seed}/{group}".encode()).hexdigest()


def of_image_types(members: Sequence[Member], image_types: Sequence[str]) -> list[Member]:
    """Those images that are of certain types.

    Raises:
        DataError: no image is of one of the types.
    """
    _check_known(members, image_types, "name")
    return [member for member in members if member.stratum in image_types]


def hold_image_types_out(members: Sequence[Member], image_types: Sequence[str]) -> dict[str, list[str]]:
    """Deals whole image types out to validation; what is left is trained on.

    Args:
        members: the images; their strata are their types.
        image_types: the types to hold out.

    Returns:
        the names of ``val`` and ``train``, sorted.

    Raises:
        DataError: no image is of one of the types, or none is left to train on.

    >>> members = [Member("a", "", "grey", "a"), Member("b", "", "colour", "b")]
    >>> hold_image_types_out(members, ["colour"])
    {'val': ['b'], 'train': ['a']}
    """
    if _check_known(members, image_types, "hold out") <= set(image_types):
        raise DataError(
            "All image types are held out, so that none is left to train on: name fewer in val_image_types."
        )
    parts: dict[str, list[str]] = {"val": [], "train": []}
    for member in sorted(members, key=lambda member: member.name):
        parts["val" if member.stratum in image_types else "train"].append(member.name)
    return parts


def _check_known(members: Sequence[Member], image_types: Sequence[str], verb: str) -> set[str]:
    known = {member.stratum for member in members}
    if unknown := sorted(set(image_types) - known):
        raise DataError(f"No image is of the type {unknown[0]}: {verb} some of {', '.join(sorted(known))}.")
    return known


def write_manifest(
    path: Path, members: Sequence[Member], parts: Mapping[str, Sequence[str]], origin: Mapping[str, int]
) -> None:
    """Records a split with the SHA-256 of every image's pixels, atomically.

    Args:
        path: the JSON file.
        members: the images.
        parts: the names of each part.
        origin: what the split was made from, such as its seed or fold.

    Raises:
        DataError: the file cannot be written.
    """
    digests = {member.name: member.digest for member in members}
    content = {**origin, "parts": {part: {name: digests[name] for name in names} for part, names in parts.items()}}
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error, "or choose another cache_dir") from None


def read_manifest(path: Path, members: Sequence[Member]) -> dict[str, list[str]]:
    """Reads a split, checking that it speaks of the images at hand.

    Returns:
        the names of each part.

    Raises:
        DataError: the file is missing, is not a split manifest, names an unknown image or one image twice, or an
            image's pixels differ.
    """
    try:
        content = json.loads(path.read_text())["parts"]
        parts = {part: dict(names) for part, names in content.items()}
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): name a split manifest that exists.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(
            f"{path} is not a split manifest: expected JSON with 'parts'; delete it to have it made again."
        ) from None
    digests = {member.name: member.digest for member in members}
    listed = Counter(name for names in parts.values() for name in names)
    for name, digest in (entry for names in parts.values() for entry in names.items()):
        problem = ""
        if digests.get(name) != digest:
            problem = "has other pixels than when the split was made" if name in digests else "is not in the data"
        elif listed[name] > 1:
            problem = "is in two parts"
        if problem:
            raise DataError(f"{path}: image {name} {problem}; use the data of that split, or make a new split.")
    return {part: list(names) for part, names in parts.items()}
