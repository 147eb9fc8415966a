"""``python -m cli segment``: finds the objects of any images by a trained model and writes every format asked for."""

import argparse
import math
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray

from cli.batch import INTERRUPTED, Tally, progress, resumes
from cli.inputs import find_images
from cli.shards import WHOLE, Shard
from datamodules.pages import Pages, open_pages
from datamodules.sample import DataError
from karyon.model import DEFAULT as DEFAULT_MODEL
from karyon.model import Model, load_model
from lightning_modules.formats.folder import DEFAULT, Format, ResultFolder, writing_to
from lightning_modules.instances import Prediction


def segment(args: list[str]) -> int:
    """Segments the images that are not done yet.

    Args:
        args: of the command line, after ``segment``.

    Returns:
        0 if all images are done, 1 if some could not be, 130 after Ctrl-C.

    Raises:
        DataError: nothing can be done: no image, no model, no place to write to.
    """
    options = _parser().parse_args(args)
    images = options.shard.of(find_images(options.paths, options.out))
    model = load_model(options.model, options.device, options.tta)
    print(f"{len(images)} files; model {model.card.name} on {model.device}; results in {options.out}", flush=True)
    with writing_to(options.out):
        options.out.mkdir(parents=True, exist_ok=True)
        resume = options.shard.decide_once(options.out, lambda: _same_settings(options, model))
        results = options.shard.open_results(options.out, options.formats, resume)
        with closing(results):
            work = Work(model, results, options.channel, options.diameter)
            try:
                with progress("Segmenting", len(images)) as report:
                    for name, path in images.items():
                        report(name, work.do(name, path))
            except KeyboardInterrupt:
                print("Interrupted; the same command goes on where it stopped.", file=sys.stderr)
                return INTERRUPTED
        if options.shard == WHOLE:
            results.join()
    return work.tally.summary()


class Work:
    """What is done to each file, and what has become of it.

    Args:
        model: finds the objects.
        results: take them.
        channel: of images of several.
        diameter: see `karyon.model.Model.segment`.
    """

    def __init__(
        self, model: Model, results: ResultFolder, channel: int | None, diameter: float | Literal["auto"] | None
    ) -> None:
        self.model, self.results, self.channel, self.diameter = model, results, channel, diameter
        self.tally = Tally("segmented")

    def do(self, name: str, path: Path) -> str:
        """Segments a file, or says why not; returns what there is to say of it."""
        if name in self.results.complete:
            self.tally.skipped += 1
            return "done before"
        try:
            pages = open_pages(path, self.channel)
            objects = [self._page(name, str(path), pages, page) for page in range(len(pages))]
            if pages.shape and "labels" in self.results.formats:
                join_pages(self.results, name, pages)
        except DataError as error:
            reason = str(error)
        except (MemoryError, torch.OutOfMemoryError):
            reason = "it needs more memory than there is: cut it into parts, or take --device cpu."
        else:
            found = [count for count in objects if count is not None]
            self.tally.done += bool(found)
            self.tally.skipped += not found
            return (
                f"{sum(found):,} objects" + (f" on {len(found)} pages" if pages.shape else "")
                if found
                else "done before"
            )
        return self.tally.fail(path, reason)

    def _page(self, name: str, path: str, pages: Pages, page: int) -> int | None:
        """Segments an image of a file; None where it was done before."""
        title = page_name(name, pages, page)
        if title in self.results.complete:
            return None
        image = pages.read(page)
        instances = self.model.segment(image, self.diameter, path)
        number = page + 1 if pages.shape else 0
        self.results.write(Prediction(title, image.shape[:2], None, instances, number), image)
        return len(instances)


def page_name(name: str, pages: Pages, page: int) -> str:
    """The name of an image: its file's, and behind it the number of its page where there are several.

    >>> page_name("a.tif", Pages((2, 6), "TZ", lambda page: np.zeros((1, 1))), 8)
    'a.tif/09'
    """
    return f"{name}/{page + 1:0{len(str(len(pages)))}}" if pages.shape else name


def join_pages(results: ResultFolder, name: str, pages: Pages) -> None:
    """Turns the label images of a file's pages into one stack of the file's shape."""
    paths = [results.path("labels", page_name(name, pages, page)) for page in range(len(pages))]
    if not all(path.exists() for path in paths):
        # Done before.
        return

    def images() -> Iterator[NDArray[Any]]:
        for path in paths:
            yield tifffile.imread(path).astype(dtype)

    headers = [_header(path) for path in paths]
    dtype = max((dtype for _, dtype in headers), key=lambda dtype: dtype.itemsize)
    stack = results.path("labels", name)
    writing = stack.with_name(f"{stack.name}.writing")
    tifffile.imwrite(
        writing,
        images(),
        shape=(*pages.shape, *headers[0][0]),
        dtype=dtype,
        compression="zlib",
        photometric="minisblack",
        metadata={"axes": f"{pages.axes}YX"},
    )
    writing.replace(stack)
    shutil.rmtree(paths[0].parent)


def _header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with tifffile.TiffFile(path) as file:
        return file.pages[0].shape, np.dtype(file.pages[0].dtype)


def _same_settings(options: argparse.Namespace, model: Model) -> bool:
    """Whether to go on with what lies in the folder; writes down with which options it was made.

    Raises:
        DataError: it was made with others.
    """
    if options.overwrite and options.shard != WHOLE:
        raise DataError("Shards go on with what others have done: remove the folder of --out, without --overwrite.")
    settings = {
        "model": model.card.name,
        "weights_sha256": model.card.weights["sha256"],
        **{key: getattr(options, key) for key in ("channel", "diameter", "tta", "formats")},
    }
    path = options.out / "segment.json"
    if options.overwrite:
        path.unlink(missing_ok=True)
    return resumes(path, settings, "choose another --out, or --overwrite them")


def _diameter(text: str) -> float | str:
    if text == "auto":
        return text
    if not 0 < (value := float(text)) < math.inf:
        raise ValueError(text)
    return value


def _channel(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError(text)
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cli segment",
        description=f"{__doc__} The same command again goes on after a stop. Exit code: 0 all done, 1 some files "
        "failed, 2 nothing can be done, 130 interrupted.",
    )
    parser.add_argument(
        "paths", metavar="PATH", nargs="+", help="files, folders (with all below) or patterns; TIFF, PNG, JPEG, ..."
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name of a model of Karyon's, or folder of a bundle")
    parser.add_argument("--out", type=Path, default=Path("segmented"), help="folder for the results")
    parser.add_argument(
        "--formats", nargs="+", choices=get_args(Format), default=list(DEFAULT), help="beside counts.csv"
    )
    parser.add_argument("--channel", type=_channel, help="which channel holds the objects, from 1")
    parser.add_argument(
        "--diameter", type=_diameter, help="of the objects, px, or auto: images are looked at in the model's scale"
    )
    parser.add_argument("--tta", action="store_true", help="average over rotations and flips; eight times the work")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument(
        "--shard",
        type=Shard.parse,
        default=WHOLE,
        metavar="K/N",
        help="the K-th of N parts of the files, for jobs side by side; the same command without it then joins all",
    )
    parser.add_argument("--overwrite", action="store_true", help="begin anew in a folder that holds results")
    return parser
