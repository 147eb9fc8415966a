"""Arrays of an image's size: in memory where they fit well, else in a file of which memory holds what is in use."""

import math
import mmap
import shutil
import tempfile
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from karyon.errors import DataError

IN_MEMORY = 2**28  # bytes


def blank(size: tuple[int, int], dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros.

    A large one lies in a temporary file without a name, that grows with what is written to it and goes with the array;
    `karyon.labels.let_go` takes it out of memory.

    Args:
        size: height and width.
        dtype: of four bytes or so.

    Raises:
        DataError: there is no room for the file.
    """
    needed = math.prod(size) * np.dtype(dtype).itemsize
    if needed <= IN_MEMORY:
        return np.zeros(size, dtype)
    folder = tempfile.gettempdir()
    # All of it, as if objects were everywhere.
    if needed > (free := shutil.disk_usage(folder).free):
        raise DataError(
            f"Results of {size[0]} x {size[1]} px need {needed / 1e9:.1f} GB in the folder of temporary files, "
            f"{folder}, and there are {free / 1e9:.1f} GB free: free space, or set TMPDIR to another folder."
        )
    with tempfile.TemporaryFile() as file:
        file.truncate(needed)
        mapped = mmap.mmap(file.fileno(), needed)
    return np.frombuffer(mapped, dtype).reshape(size)
