"""``python -m cli segment``: finds the objects of any images by a trained model and writes every format asked for."""

import argparse
import io
import math
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from cli.batch import DONE_BEFORE, Tally, progress, resumes, stoppable, stopped
from cli.inputs import find_images
from cli.shards import WHOLE, Shard
from datamodules.pages import Pages, open_pages
from datamodules.sample import DataError
from karyon.model import DEFAULT as DEFAULT_MODEL
from karyon.model import Model, Precision, load_model
from lightning_modules.formats.folder import DEFAULT, Format, ResultFolder, complete_images, writing_to
from lightning_modules.instances import Prediction


def segment(args: list[str]) -> int:
    """Segments the images that are not done yet.

    Args:
        args: of the command line, after ``segment``.

    Returns:
        0 if all images are done, 1 if some could not be, 130 after Ctrl-C, 143 where a scheduler has ended it.

    Raises:
        DataError: nothing can be done: no image, no model, no place to write to.
    """
    options = _parser().parse_args(args)
    # What a terminal or a file cannot show must not stop the work.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    root, images = find_images(options.paths, options.out)
    images = options.shard.of(images)
    model = load_model(options.model, options.device, options.tta, options.precision)
    print(f"{len(images)} files; model {model.card.name} on {model.device}; results in {options.out}", flush=True)
    with writing_to(options.out), stoppable():
        options.out.mkdir(parents=True, exist_ok=True)
        resume = options.shard.decide_once(options.out, lambda: _same_settings(options, root, model))
        results = options.shard.open_results(options.out, options.formats, resume)
        work = Work(model, results, options.channel, options.diameter)
        try:
            with closing(results), progress("Segmenting", len(images)) as report:
                for name, path in images.items():
                    report(name, work.do(name, path, partial(report, name)))
            if options.shard == WHOLE:
                results.join()
        except KeyboardInterrupt as stop:
            return stopped(stop, work.tally)
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

    def do(self, name: str, path: Path, report: Callable[[str, float], None]) -> str:
        """Segments a file, or says why not.

        Args:
            name: of the file.
            path: where it lies.
            report: takes what there is to say of a file that is not done with yet, and which share of it is.

        Returns:
            what there is to say of the file.
        """
        if name in self.results.complete:
            self.tally.skipped += 1
            return DONE_BEFORE
        try:
            return self._pages(name, path, report)
        except DataError as error:
            reason = str(error)
        except OSError:
            # The results cannot be written.
            raise
        # Whatever a library says of one image, the others are to be done.
        except Exception as error:
            if isinstance(error, MemoryError) or "memory" in str(error):
                reason = "it needs more memory than there is: cut it into parts, or take --device cpu."
            else:
                what = f"{type(error).__name__}: {error}".splitlines()[0]
                reason = f"Karyon fails on it ({what}): please report that, with the file."
        return self.tally.fail(path, reason)

    def _pages(self, name: str, path: Path, report: Callable[[str, float], None]) -> str:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(f"{path}: its name is not valid UTF-8: rename it.") from None
        pages = open_pages(path, self.channel)

        def page_report(page: int, share: float) -> None:
            share = (page + share) / len(pages)
            report(f"{share:.0%}", share)

        objects = [self._page(name, path, pages, page, partial(page_report, page)) for page in range(len(pages))]
        if pages.shape and "labels" in self.results.formats:
            titles = [page_name(name, pages, page) for page in range(len(pages))]
            self.results.stack_labels(name, titles, pages.shape, pages.axes)
        found = [count for count in objects if count is not None]
        self.tally.done += bool(found)
        self.tally.skipped += not found
        if not found:
            return DONE_BEFORE
        return f"{sum(found):,} objects" + (f" on {len(found)} pages" if pages.shape else "")

    def _page(self, name: str, path: Path, pages: Pages, page: int, report: Callable[[float], None]) -> int | None:
        """Segments an image of a file; None where it was done before."""
        title = page_name(name, pages, page)
        if title in self.results.complete:
            return None
        image = pages.read(page)
        number = page + 1 if pages.shape else 0
        source = f"{path}, page {number}" if number else str(path)
        instances = self.model.segment(image, self.diameter, source, report)
        self.results.write(Prediction(title, image.shape[:2], None, instances, number), image)
        return len(instances)


def page_name(name: str, pages: Pages, page: int) -> str:
    """The name of an image: its file's, and behind it the number of its page where there are several.

    >>> page_name("a.tif", Pages((2, 6), "TZ", lambda page: page), 8)
    'a.tif/09'
    """
    return f"{name}/{page + 1:0{len(str(len(pages)))}}" if pages.shape else name


def _same_settings(options: argparse.Namespace, root: Path, model: Model) -> bool:
    """Whether to go on with what lies in the folder; writes down of which images and with which options it was made.

    Raises:
        DataError: it was made of or with others.
    """
    if options.overwrite and options.shard != WHOLE:
        raise DataError("Shards go on with what others have done: remove the folder of --out, without --overwrite.")
    settings = {
        # The same name below another folder is another image.
        "folder of the images": str(root),
        "model": model.card.name,
        "weights_sha256": model.card.weights["sha256"],
        **{key: getattr(options, key) for key in ("channel", "diameter", "tta", "precision", "formats")},
    }
    path = options.out / "segment.json"
    # Where no image could be used, as without the right channel, there is nothing to mix.
    empty = not complete_images(options.out) and not any(options.out.glob("counts.csv.part*"))
    if options.overwrite or (empty and options.shard == WHOLE):
        path.unlink(missing_ok=True)
    return resumes(path, settings, "choose another --out, or --overwrite them")


def _diameter(text: str) -> float | str:
    if text == "auto":
        return text
    with suppress(ValueError):
        if 0 < (value := float(text)) < math.inf:
            return value
    raise argparse.ArgumentTypeError(f"{text} is no size: expected a number of px above 0, or auto")


def _channel(text: str) -> int:
    with suppress(ValueError):
        if (value := int(text)) > 0:
            return value
    raise argparse.ArgumentTypeError(f"{text} is no channel: expected a number from 1 on")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cli segment",
        description=f"{__doc__} The same command again goes on after a stop. Exit code: 0 all done, 1 some files "
        "failed, 2 nothing can be done, 130 interrupted, 143 ended by a scheduler.",
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
        "--diameter",
        type=_diameter,
        help="of the objects, px: images are looked at in the model's scale; auto: those of small objects, enlarged",
    )
    parser.add_argument("--tta", action="store_true", help="average over rotations and flips; eight times the work")
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="fp32",
        help="bf16: about half the time on recent CPUs and GPUs; single pixels may differ",
    )
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
