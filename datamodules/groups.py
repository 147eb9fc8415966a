"""Images that belong together, of one patient, plate or slide: told by their names or a table, kept on one side."""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from karyon.commands.console import counted
from karyon.errors import DataError
from karyon.io.reading import read_table

Groups = dict[str, str]
"""For each image its group."""


def by_pattern(names: Sequence[str], pattern: str) -> Groups:
    """The groups that a regular expression finds in names.

    Raises:
        DataError: it is none, has not one group in brackets, or finds nothing in a name.

    >>> by_pattern(["plate1/a", "plate2/a"], "plate([0-9]+)")
    {'plate1/a': '1', 'plate2/a': '2'}
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise DataError(f"group_pattern {pattern} is not a regular expression ({error}): correct it.") from None
    if expression.groups != 1:
        raise DataError(f"group_pattern {pattern} has {expression.groups} groups in brackets: expected one.")
    found = {name: expression.search(name) for name in names}
    if missing := [name for name, match in found.items() if match is None]:
        raise DataError(
            f"group_pattern {pattern} finds nothing in the names of {counted(len(missing), 'image')}, "
            f"{missing[0]} first: correct it, or rename them."
        )
    return {name: match[1] or "" for name, match in found.items() if match}


def by_table(names: Sequence[str], path: Path, column: str) -> Groups:
    """The groups in a column of a CSV table, whose column ``image`` has the names, with or without a suffix.

    Raises:
        DataError: the table cannot be read, lacks a column or an image, or lists one twice.
    """
    groups: Groups = {}
    try:
        for row in read_table(path):
            if groups.setdefault(row["image"], row[column]) != row[column]:
                raise DataError(f"{path} lists {row['image']} in two groups: remove one of the rows.")
    except (KeyError, ValueError, csv.Error):
        raise DataError(f"{path} is not a CSV table with the columns image and {column}: add them.") from None
    known = {str(Path(name).with_suffix("")): group for name, group in groups.items() if Path(name).name} | groups
    if missing := [name for name in names if not known.get(name)]:
        raise DataError(f"{path} tells no {column} of {counted(len(missing), 'image')}, {missing[0]} first: add them.")
    return {name: known[name] for name in names}


def joined(groups: Groups, digests: Mapping[str, str]) -> Groups:
    """Groups of which those that share a file are one, called by the first name of an image in it.

    >>> joined({"a": "1", "b": "2", "c": "3"}, {"a": "x", "b": "y", "c": "x"})
    {'a': 'a', 'b': 'b', 'c': 'a'}
    """
    names = sorted(groups)
    kinds, group = np.unique([groups[name] for name in names], return_inverse=True)
    files, digest = np.unique([digests[name] for name in names], return_inverse=True)
    size = len(kinds) + len(files)
    edges = coo_array((np.ones(len(names)), (group, len(kinds) + digest)), shape=(size, size))
    part = connected_components(edges, directed=False)[1][group]
    first = dict(zip(reversed(part.tolist()), reversed(names), strict=True))
    return {name: first[number] for name, number in zip(names, part.tolist(), strict=True)}


def hold_shares_out(groups: Groups, shares: Mapping[str, float], seed: int) -> dict[str, list[str]]:
    """Holds shares of the groups out, one at least of each; the rest is trained on.

    Args:
        groups: of each image.
        shares: of each part that is held out.
        seed: another seed, another split.

    Returns:
        the names of each part, sorted.

    Raises:
        DataError: no group is left to train on.
    """
    # Here, since importing it takes a second.
    from sklearn.model_selection import GroupShuffleSplit

    number = len(set(groups.values()))
    counts = {part: max(1, round(share * number)) for part, share in shares.items() if share}
    if sum(counts.values()) >= number:
        raise DataError(
            f"The folder has {counted(number, 'group')} of images, too few to hold {' and '.join(counts)} out of: "
            "add some."
        )
    rest = sorted(groups)
    parts = {}
    for part, count in counts.items():
        splitter = GroupShuffleSplit(1, test_size=count, random_state=seed)
        ((kept, out),) = splitter.split(rest, groups=[groups[name] for name in rest])
        parts[part], rest = [rest[k] for k in out], [rest[k] for k in kept]
    return {**parts, "train": rest}


def hold_fold_out(groups: Groups, folds: int, fold: int, seed: int, with_test: bool) -> dict[str, list[str]]:
    """Deals whole groups into folds of about equally many images, and holds out one or two.

    Args:
        groups: of each image.
        folds: their number.
        fold: which one is held out: tested on, the one before it being validated on; without a test validated on.
        seed: another seed, other folds.
        with_test: whether there is a test.

    Returns:
        the names of each part, sorted.

    Raises:
        DataError: there are fewer groups than folds.
    """
    # Here, since importing it takes a second.
    from sklearn.model_selection import StratifiedGroupKFold

    names = sorted(groups)
    if len(set(groups.values())) < folds:
        number = counted(len(set(groups.values())), "group")
        raise DataError(f"The folder has {number} of images, too few for {folds} folds: lower it.")
    # Of images that are all of one class it makes folds that differ least in size.
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    split = splitter.split(names, [0] * len(names), [groups[name] for name in names])
    held = [[names[k] for k in out] for _, out in split]
    parts = {"test": held[fold], "val": held[fold - 1]} if with_test else {"val": held[fold]}
    taken = {name for part in parts.values() for name in part}
    return {**parts, "train": [name for name in names if name not in taken]}
