"""Going on with the results of an earlier call of the same command."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from karyon.errors import DataError
from karyon.io.whole_files import write_whole


def resumes(path: Path, settings: Mapping[str, Any], remedy: str, free: Collection[str] = ()) -> bool:
    """Whether results made with the same settings are there to go on with; writes the settings down where none are.

    Args:
        path: the file of the settings, beside the results.
        settings: the present ones.
        remedy: what to do where they differ from the earlier ones.
        free: those that may differ.

    Raises:
        DataError: they do.
    """
    if not path.exists():
        write_whole(path, (json.dumps(settings, indent=1) + "\n").encode())
        return False
    try:
        earlier = dict(json.loads(path.read_text()))
    except (ValueError, TypeError):
        earlier = {}
    if differing := sorted(key for key in settings if earlier.get(key) != settings[key] and key not in free):
        raise DataError(f"{path.parent} holds results of other options ({', '.join(differing)}): {remedy}.")
    return True
