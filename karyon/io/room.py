"""How much a file may be unpacked to: what is usual and fits memory and disk, or more where the user says so."""

import math
import os

from karyon.errors import DataError

IN_MEMORY = 2**31  # bytes; larger TIFFs are unpacked into a temporary file
MAX_SIZE = "KARYON_MAX_SIZE"  # of the environment, which the workers of a data loader inherit
UNITS = {"M": 1e6, "G": 1e9, "T": 1e12}
RAISE = f"raise the bound with --max-size 100G (for fit and predict: {MAX_SIZE}=100G before the command)"


def amount(text: str) -> float:
    """The bytes of a text such as ``4G`` or ``800M``.

    Raises:
        ValueError: it is none.

    >>> amount("1.5G")
    1500000000.0
    """
    if (unit := text[-1:].upper()) not in UNITS or not 0 < (number := float(text[:-1])) < math.inf:
        raise ValueError(text)
    return number * UNITS[unit]


def bound(least: float) -> float:
    """The bytes that a file may be unpacked to: a bound of ours, or the user's where that is higher.

    Raises:
        DataError: the variable of the environment holds something else.
    """
    text = os.environ.get(MAX_SIZE)
    try:
        return max(least, amount(text)) if text else least
    except ValueError:
        raise DataError(f"{MAX_SIZE} is {text}, which is not an amount: expected 4G, or 800M.") from None


def check_room(name: str, declared: float, packed: float, most: float, unpacked: bool = True) -> None:
    """Compares what a file declares with what it can hold and with the room there is, before anything is unpacked.

    Args:
        name: what to call the file in an error.
        declared: bytes of its pixels.
        packed: bytes in which they lie.
        most: how many times its size the compression can unpack a byte to.
        unpacked: whether they are to be unpacked into memory, or, if large, into a temporary file.

    Raises:
        DataError: it declares more.
    """
    if declared > packed * most:
        raise DataError(
            f"{name} declares {declared:,.0f} bytes of pixels, which its {packed:,.0f} bytes cannot hold: the file is "
            "damaged or cut short; copy or download it again."
        )
    if unpacked:
        check_bound(name, declared, on_disk=declared > IN_MEMORY)


def check_bound(name: str, size: float, usual: float = math.inf, on_disk: bool = False) -> None:
    """Compares the bytes that a file will take with the room there is and with what is usual, or the user's bound.

    Raises:
        DataError: it takes more.
    """
    # Here, since every command imports this before its options are parsed.
    import shutil
    import tempfile

    import psutil

    place = f"the folder of temporary files, {tempfile.gettempdir()}" if on_disk else "memory"
    free = shutil.disk_usage(tempfile.gettempdir()).free if on_disk else psutil.virtual_memory().available
    least, why = min((free, f"free in {place}"), (usual, "usual in such a file"))
    if size > (most := bound(least)):
        why = why if most == least else "allowed"
        raise DataError(f"{name} takes {size / 1e9:.3g} GB, and {most / 1e9:.3g} GB are {why}: cut it, or {RAISE}.")
