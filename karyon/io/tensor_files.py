"""Files of torch: checkpoints and weights."""

import zipfile
from pathlib import Path
from typing import Any

from karyon.errors import DataError


def load_tensors(path: Path, mapped: bool = False) -> Any:
    """What `torch.save` has written, as long as it is tensors and plain values: nothing in the file is run.

    Args:
        path: of the file.
        mapped: whether tensors are read from the file when they are first used.

    Raises:
        DataError: it is missing, damaged or cut short, holds objects of other classes, or is a bomb.
    """
    import torch

    try:
        with zipfile.ZipFile(path) as file:
            # Compressed, or of parts that overlap, a file could unpack to any size.
            if sum(entry.file_size for entry in file.infolist()) > path.stat().st_size:
                raise ValueError
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError:
        raise DataError(
            f"There is no checkpoint {path}: name a file, such as RUN/checkpoints/best.ckpt (--ckpt_path takes last, "
            "too, and outside of fit best)."
        ) from None
    # Damaged pickles raise anything.
    except Exception:
        raise DataError(
            f"{path} is not a readable checkpoint of tensors alone: it is damaged, cut short or of another kind."
        ) from None
