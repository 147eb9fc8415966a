"""What ``segment`` does, once its options are known: models, readers and writers are imported here."""

import argparse
import io
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from karyon.commands.batch import resumes
from karyon.commands.console import DONE_BEFORE, Tally, progress, stoppable, stopped
from karyon.commands.inputs import find_images
from karyon.commands.shards import WHOLE
from karyon.errors import DataError
from karyon.inference.predictor import Diameter
from karyon.instances import Prediction
from karyon.io.reading import Pages, open_image
from karyon.io.result_tables import complete_images
from karyon.io.results_folder import ResultFolder, open_results
from karyon.io.whole_files import writing_to
from karyon.model import Model, load_model
from karyon.preprocessing import Background


def segment_images(options: argparse.Namespace) -> int:
    """Segments the images that are not done yet; see `karyon.commands.segment.segment`."""
    # What a terminal or a file cannot show must not stop the work.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    root, images = find_images(options.paths, options.out)
    images = options.shard.of(images)
    if trusted := options.trust == "mine":
        # As for training, a class of the user's own may lie in a file of the current folder.
        sys.path.append(str(Path.cwd()))
        print(f"--trust mine: code of your own that {options.model} names is imported and run.", flush=True)
    model = load_model(options.model, options.device, options.rotations, options.precision, trusted)
    print(f"{len(images)} files; model {model.card.name} on {model.device}; results in {options.out}", flush=True)
    with writing_to(options.out), stoppable():
        options.out.mkdir(parents=True, exist_ok=True)
        resume = options.shard.decide_once(options.out, lambda: _same_settings(options, root, model))
        results = open_results(options.out, options.formats, resume, options.shard.part)
        work = FileSegmenter(model, results, options.channel, options.diameter, options.background)
        try:
            with closing(results), progress("Segmenting", len(images)) as report:
                for name, path in images.items():
                    report(name, work.do(name, path, partial(report, name)))
            if options.shard == WHOLE:
                results.join()
        except KeyboardInterrupt as stop:
            return stopped(stop, work.tally)
    return work.tally.summary()


class FileSegmenter:
    """What is done to each file, and what has become of it.

    Args:
        model: finds the objects.
        results: take them.
        channel: of images of several.
        diameter, background: see `karyon.model.Model.segment`.
    """

    def __init__(
        self, model: Model, results: ResultFolder, channel: int | None, diameter: Diameter, background: Background
    ) -> None:
        self.model, self.results, self.channel = model, results, channel
        self.diameter, self.background = diameter, background
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
        pages = open_image(path, channel=self.channel)

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
        instances = self.model.segment(image, self.diameter, source, report, self.background)
        self.results.write(Prediction(title, image.shape[:2], None, instances, number), image)
        return len(instances)


def page_name(name: str, pages: Pages, page: int) -> str:
    """The name of an image: its file's, and after it the number of its page where there are several.

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
        **{
            key: getattr(options, key)
            for key in ("channel", "background", "diameter", "rotations", "precision", "formats")
        },
    }
    path = options.out / "segment.json"
    # Where no image could be used, as without the right channel, there is nothing to mix.
    empty = not complete_images(options.out) and not any(options.out.glob("counts.csv.part*"))
    if options.overwrite or (empty and options.shard == WHOLE):
        path.unlink(missing_ok=True)
    return resumes(path, settings, "choose another --out, or --overwrite them")
