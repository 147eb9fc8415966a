"""What ``segment --link`` does with a stack once its planes are segmented."""

import argparse
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karyon.commands.batch import resumes
from karyon.commands.console import counted
from karyon.commands.lengths import in_pixels
from karyon.errors import DataError
from karyon.io.link_tables import LINK_TABLES, LINKED, join_link_tables, track_rows, volume_rows
from karyon.io.pages import Pages
from karyon.io.reading import open_image
from karyon.io.result_tables import write_rows
from karyon.io.results_folder import ResultFolder, write_stack
from karyon.io.whole_files import whole, write_whole
from karyon.labels import LabelImage
from karyon.linking.link import Links, Rules, find_links
from karyon.planes import PixelSize

AXES = {"z": "depth", "t": "time"}
OPTIONS = ("link", "link_distance", "link_overlap", "link_gap", "link_neck", "link_planes", "z_step")


class Linking:
    """Links the planes and frames of stacks that are segmented, and writes what comes out.

    Args:
        options: of the command line.
        formats: of the results.

    Raises:
        DataError: there are no label images, or linked ones of other options.
    """

    def __init__(self, options: argparse.Namespace, formats: Sequence[str]) -> None:
        self.options, self.axes = options, options.link
        self.folder = options.out / LINKED
        if "labels" not in formats:
            raise DataError("--link makes its objects of label images: name labels among --formats.")
        settings = {key: getattr(options, key) for key in OPTIONS}
        remedy = "remove that folder to link anew, or choose another --out"
        self.folder.mkdir(exist_ok=True)
        options.shard.decide_once(self.folder, lambda: resumes(self.folder / "link.json", settings, remedy))

    def check(self, source: str, pages: Pages, size: PixelSize | None) -> tuple[NDArray[np.int64], Rules]:
        """Numbers of a file's pages by frame and plane, (T, Z), and what may be linked.

        Raises:
            DataError: it is no stack along the axes that are to be linked, or its pixels are of unknown size.
        """
        axes, chosen = pages.axes.lower(), self.options
        if not axes:
            raise DataError(f"{source} is a single image: --link {self.axes} needs a stack, as a file.")
        if len(axes) == len(self.axes) == 1 and axes not in AXES:
            # Of pages the file does not say what they are.
            axes = self.axes
        has = " and ".join(AXES.get(axis, axis.upper()) for axis in axes)
        if set(axes) - set(AXES) or set(self.axes) - set(axes):
            wanted = " and ".join(AXES[axis] for axis in self.axes)
            raise DataError(f"{source} is a stack in {has}, not in {wanted}: choose another --link, or save it as one.")
        if self.axes == "t" and "z" in axes:
            raise DataError(f"{source} is a stack in {has}: link its planes, too (--link zt).")
        distance = in_pixels(chosen.link_distance, size, source, "--link-distance")
        rules = Rules(
            None if distance == "auto" else distance,
            *(chosen.link_overlap, chosen.link_gap, chosen.link_neck, chosen.link_planes),
        )
        numbers = np.arange(len(pages)).reshape(pages.shape)
        if len(axes) == 2:
            return (numbers if axes == "tz" else numbers.T), rules
        return (numbers[:, None] if axes == "t" else numbers[None]), rules

    def link(
        self, results: ResultFolder, name: str, titles: Sequence[str], pages: Pages, size: PixelSize | None
    ) -> str:
        """Links a stack that is not linked yet.

        Args:
            results: among which its label images lie.
            name: of its file.
            titles: of its pages.
            pages: of the file.
            size: of its pixels.

        Returns:
            what there is to say of it; nothing where it was done before.
        """
        labels = results.path("labels", name)
        target = self.folder / labels.relative_to(results.folder / "labels")
        if target.exists():
            return ""
        (numbers, rules), stack = self.check(name, pages, size), open_image(labels, raw=True)
        frames, depths = numbers.shape
        step = size.step if size else 1.0

        def read(plane: int) -> LabelImage:
            return stack.read(int(numbers.flat[plane]))

        links = find_links(read, frames, depths, self.axes, rules, step)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._tables(name, titles, target, links, numbers, size)
        place = np.argsort(numbers, axis=None)
        planes = (links.plane(int(place[page]), stack.read(page)) for page in range(len(pages)))
        dtype = np.dtype(np.uint16 if links.numbers.max(initial=0) < 2**16 else np.uint32)
        shape = (*pages.shape, *stack.read(0).shape)
        # Last: where it lies, all is done.
        write_stack((plane.astype(dtype) for plane in planes), target, shape, dtype, pages.axes, size)
        if links.parents is None:
            return f"{counted(len(links.numbers), 'object')} in depth"
        return f"{counted(len(links.parents), 'track')} (up to {links.distance:.3g} px a frame)"

    def _tables(
        self,
        name: str,
        titles: Sequence[str],
        target: Path,
        links: Links,
        numbers: NDArray[np.int64],
        size: PixelSize | None,
    ) -> None:
        of = (titles[page] for page in numbers.ravel()[links.sections.plane].tolist())
        rows: dict[str, Iterable[Sequence[Any]]] = {
            "links": zip(of, links.sections.label.tolist(), links.ids.tolist(), strict=True)
        }
        if "z" in self.axes:
            rows["volumes"] = volume_rows(name, links, numbers.shape[1], size)
        if "t" in self.axes:
            rows["tracks"] = track_rows(name, links, numbers.shape[1], size)
            lines = "".join(" ".join(map(str, track)) + "\n" for track in links.tracks.tolist())
            write_whole(target.with_name(f"{target.stem}.res_track.txt"), lines.encode())
        for table, entries in rows.items():
            path = target.with_name(f"{target.stem}.{table}.csv")
            with whole(path) as writing, writing.open("w", newline="", encoding="utf-8") as file:
                write_rows(file, [LINK_TABLES[table]])
                write_rows(file, entries)

    def join(self) -> None:
        """Brings the tables of all stacks together."""
        join_link_tables(self.options.out)


def forget_links(folder: Path) -> None:
    """Removes what was linked from a folder of results that is begun anew."""
    shutil.rmtree(folder / LINKED, ignore_errors=True)
    for table in LINK_TABLES:
        (folder / f"{table}.csv").unlink(missing_ok=True)
