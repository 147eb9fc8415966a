"""What is known of 3-D objects and tracks, as tables; in um where the sizes are known, else empty."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from karyon.io.result_tables import read_rows, write_rows
from karyon.io.whole_files import whole
from karyon.linking.link import Links
from karyon.planes import PixelSize

LINKED = "linked"  # folder of linked label images and their tables, within the folder of results
LINK_TABLES: dict[str, tuple[str, ...]] = {
    # Of each object of an image, which one of the linked image it belongs to; 0 where it was left out.
    "links": ("image", "id", "object"),
    "volumes": (
        *("image", "object", "t", "z_begin", "z_end", "volume", "centroid_x", "centroid_y", "centroid_z"),
        *("volume_um3", "diameter_um", "centroid_x_um", "centroid_y_um", "centroid_z_um"),
    ),
    "tracks": (
        *("image", "track", "begin", "end", "parent", "ancestor", "mean_size", "path", "displacement"),
        *("mean_size_um", "path_um", "displacement_um"),
    ),
}


def volume_rows(name: str, links: Links, depths: int, size: PixelSize | None) -> Iterator[tuple[Any, ...]]:
    """Describes each 3-D object, in each frame.

    Args:
        name: of the image.
        links: what belongs together in it.
        depths: how many planes a frame has.
        size: of a pixel.

    Yields:
        the entries of the table ``volumes``: planes and frames from 0, px, um3, um.
    """
    seen = links.owner >= 0
    first, last = np.full(len(links.numbers), depths), np.zeros(len(links.numbers), int)
    np.minimum.at(first, links.owner[seen], links.sections.plane[seen] % depths)
    np.maximum.at(last, links.owner[seen], links.sections.plane[seen] % depths)
    step = size.step if size else 1.0
    for k, number in enumerate(links.numbers.tolist()):
        z, y, x = links.bodies.centre[k] / (step, 1, 1)
        volume = int(links.bodies.size[k])
        yield (
            *(name, number, int(links.bodies.frame[k]), int(first[k]), int(last[k]), volume),
            *(round(float(place), 2) for place in (x, y, z)),
            *_in_um(volume, x, y, z, size),
        )


def _in_um(volume: int, x: float, y: float, z: float, size: PixelSize | None) -> Iterator[str]:
    """Volume, diameter of a ball of that volume, and centroid.

    >>> list(_in_um(4, 10.0, 20.0, 3.0, PixelSize(0.5, 0.25, 2.0)))
    ['1', '1.2407', '5', '5', '6']
    """
    if size is None or size.z is None:
        return iter([""] * 5)
    cubed = volume * size.x * size.y * size.z
    values = (cubed, np.cbrt(6 * cubed / np.pi), x * size.x, y * size.y, z * size.z)
    return (f"{value:.6g}" for value in values)


def track_rows(name: str, links: Links, depths: int, size: PixelSize | None) -> Iterator[tuple[Any, ...]]:
    """Describes each track.

    Args:
        name: of the image.
        links: what belongs together in it.
        depths: how many planes a frame has.
        size: of a pixel.

    Yields:
        the entries of the table ``tracks``: frames from 0; the parent, 0 where there is none; the track with which
        its line of parents begins; the mean area or volume, px; the way from frame to frame and that from the first
        to the last, in widths of a pixel; um2 or um3, and um.
    """
    ancestors = {0: 0}
    order = np.lexsort((links.bodies.frame, links.numbers))
    starts = np.searchsorted(links.numbers[order], np.arange(1, len(order) + 2))
    known = size is not None and (depths == 1 or size.z is not None)
    for number, begin, end, parent in links.tracks.tolist():
        ancestors[number] = ancestors[parent] or number
        body = order[starts[number - 1] : starts[number]]
        places = links.bodies.centre[body]
        path = float(np.linalg.norm(np.diff(places, axis=0), axis=1).sum())
        values = (float(links.bodies.size[body].mean()), path, float(np.linalg.norm(places[-1] - places[0])))
        yield (
            *(name, number, begin, end, parent, ancestors[number]),
            *(round(value, 2) for value in values),
            *(_track_in_um(*values, depths, size) if size and known else [""] * 3),
        )


def _track_in_um(mean: float, path: float, displacement: float, depths: int, size: PixelSize) -> Iterator[str]:
    unit = size.x * size.y * (size.z if depths > 1 and size.z else 1)
    return (f"{value:.6g}" for value in (mean * unit, path * size.side, displacement * size.side))


def join_link_tables(folder: Path) -> None:
    """Brings the tables of all linked images together in those of the folder of results."""
    for table, columns in LINK_TABLES.items():
        if parts := sorted((folder / LINKED).rglob(f"*.{table}.csv")):
            with whole(folder / f"{table}.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
                write_rows(file, [columns])
                for part in parts:
                    write_rows(file, read_rows(part))
