"""Names of images as names of files, on any system."""

import hashlib
import re
from collections.abc import Collection
from pathlib import PurePosixPath

from karyon.io.reading import IMAGE_SUFFIXES

# Of a name on Windows: what it takes for a device whatever comes after its dot, signs with a meaning, and its end.
FORBIDDEN = (
    r"^(?:con|conin\$|conout\$|prn|aux|nul|com[0-9\xb9\xb2\xb3]|lpt[0-9\xb9\xb2\xb3])(?= *(?:\.|$))"
    r'|[\\<>:"|?*\x00-\x1f\x7f]|[. ]$'
)
LONGEST_FILE_NAME = 200  # bytes; file systems allow 255, and a score and a suffix are added


def file_stem(name: str) -> str:
    """Turns an image's name into a file's, without its suffix; different names stay different.

    Characters that some file system gives a meaning to, and a leading dot, are written as ``%`` and their code, as in
    web addresses. Very long names are cut, and a digest of the whole name tells them apart.

    >>> file_stem("plate 1/well B3"), file_stem("../x")
    ('plate 1%2Fwell B3', '%2E.%2Fx')
    """
    return shorten(re.sub(rf"^\.|[%/]|{FORBIDDEN}", _escape, name, flags=re.IGNORECASE))


def portable(name: str) -> str:
    """A name that a file, or a folder, may have on Windows too; different names stay different.

    >>> portable("a:b. "), portable("aux.x"), portable("100%"), portable("a%3A")
    ('a%3Ab.%20', '%61ux.x', '100%', 'a%253A')
    """
    return shorten(re.sub(rf"%(?=[0-9A-F]{{2}})|{FORBIDDEN}", _escape, name, flags=re.IGNORECASE))


def _escape(match: re.Match[str]) -> str:
    """The first character as its code, the others as they are."""
    return f"%{ord(match[0][0]):02X}{match[0][1:]}"


def shorten(name: str) -> str:
    """Cuts a file's name to what file systems allow; different names stay different."""
    if len(name.encode()) <= LONGEST_FILE_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return name.encode()[: LONGEST_FILE_NAME - 17].decode(errors="ignore") + "~" + digest


def without_suffix(name: str) -> str:
    """An image's name without the suffix of its file, as the Data Science Bowl has it.

    >>> without_suffix("a/b.png"), without_suffix("stack.ome.tif/09"), without_suffix("b.v2")
    ('a/b', 'stack.ome/09', 'b.v2')
    """
    suffixes = "|".join(map(re.escape, sorted(IMAGE_SUFFIXES)))
    return re.sub(rf"(?<=[^/])(?:{suffixes})(?=$|/[0-9]+$)", "", name, flags=re.IGNORECASE)


def names_stay_apart(names: Collection[str]) -> bool:
    """Whether names of images without their suffix are still the images' own, and no folder's; see `without_suffix`.

    >>> [names_stay_apart(names) for names in (["a.png", "b.tif"], ["a.png", "a.tif"], ["a.tif", "a/1.tif"])]
    [True, False, False]
    """
    # Some file systems do not tell capitals from small letters.
    short = {without_suffix(name).casefold() for name in names}
    folders = {parent.as_posix().casefold() for name in names for parent in PurePosixPath(name).parents}
    return len(short) == len(names) and not short & folders
