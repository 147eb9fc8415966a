"""What ``segment`` does, once its options are known: models, readers and writers are imported here."""

import argparse
import shutil
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

from karyon.commands.batch import resumes
from karyon.commands.console import DONE_BEFORE, Tally, counted, progress, stoppable, stopped
from karyon.commands.dry_run import foretell
from karyon.commands.finished import PROBABILITIES, Finished
from karyon.commands.images import WAYS, Ahead, at_size, check_name, made_of, page_name, size_of
from karyon.commands.inputs import find_images
from karyon.commands.lengths import in_pixels, pixel_size_of
from karyon.commands.linking import Linking, forget_links
from karyon.commands.remarks import Remarks
from karyon.commands.shards import WHOLE
from karyon.commands.workers import at_work
from karyon.errors import DataError
from karyon.inference.block_store import BlockStore
from karyon.inference.blocks import Threads, side_by_side
from karyon.inference.tissue import looked_at
from karyon.instances import Prediction
from karyon.io.file_names import names_stay_apart
from karyon.io.formats import Format
from karyon.io.lazy_image import Image, LazyImage
from karyon.io.other_formats import passed_over
from karyon.io.pages import nan_filled
from karyon.io.reading import Pages, open_image, open_page
from karyon.io.result_tables import complete_images
from karyon.io.results_folder import UNFINISHED, ResultFolder, open_results
from karyon.io.whole_files import writing_to
from karyon.model import Answer, Model, load_model

SETTINGS = "segment.json"
SHORT = "results named without suffix"


def segment_images(options: argparse.Namespace) -> int:
    """Segments the images that are not done yet; see `karyon.commands.segment.segment`."""
    options.workers.check(options.worker_options)
    root, images, others = find_images(options.paths, options.out)
    if said := passed_over(others):
        print(said)
    options.apart = names_stay_apart(images)
    images = options.shard.of(images)
    if trusted := options.trust == "mine":
        # As for training, a class of the user's own may lie in a file of the current folder.
        sys.path.append(str(Path.cwd()))
        print(f"--trust mine: code of your own that {options.model} names is imported and run.", flush=True)
    model = load_model(options.model, options.device, options.rotations, options.precision, trusted, options.memory)
    print(
        f"{counted(len(images), 'file')}; model {model.card.name} on {model.device}; results in {options.out}",
        flush=True,
    )
    if options.background != "auto" and not model.preprocessing.wants_dark:
        print(
            f"{model.card.name} takes images as they are and inverts none: --background {options.background} changes "
            "nothing.",
            flush=True,
        )
    if options.dry_run:
        return foretell(images, model, options)
    with writing_to(options.out), stoppable(), options.shard.at_work(options.out), at_work(model, options):
        resume = options.shard.decide_once(options.out, lambda: _same_settings(options, root, model))
        finished = Finished(options.out / SETTINGS, options.formats, list(images), options.shard == WHOLE)
        linking = Linking(options, finished.formats) if options.link else None
        results = open_results(options.out, finished.formats, resume, options.shard.part, options.short)
        work = FileSegmenter(model, results, finished, options, linking)
        try:
            with closing(results), progress("Segmenting", len(images)) as report:
                for (name, path), ahead in side_by_side(work.ahead, images.items(), Threads(2)):
                    report(name, work.do(name, path, ahead, partial(report, name)))
            if options.shard == WHOLE and not finished.left:
                results.join()
                if linking:
                    linking.join()
                if not work.tally.failed:
                    shutil.rmtree(options.out / UNFINISHED, ignore_errors=True)
            finished.record()
        except KeyboardInterrupt as stop:
            return stopped(stop, work.tally)
    work.remarks.show()
    return work.tally.summary()


class FileSegmenter:
    """What is done to each file, and what has become of it.

    Args:
        model: finds the objects.
        results: take them.
        finished: images of which the results lie there, in other formats.
        options: of the command line.
        linking: links planes and frames, where that is asked for.
    """

    def __init__(
        self,
        model: Model,
        results: ResultFolder,
        finished: Finished,
        options: argparse.Namespace,
        linking: Linking | None,
    ) -> None:
        self.model, self.results, self.finished, self.options = model, results, finished, options
        self.linking = linking
        self.tally = Tally("segmented")
        self.remarks = Remarks()

    def ahead(self, item: tuple[str, Path]) -> Ahead:
        """Opens a file, given as name and path, and segments its image if it is small; called by several threads."""
        name, path = item
        if self._is_done(name) and not self.linking:
            return Ahead()
        try:
            check_name(path, name)
            pages = open_image(path, channel=self.options.channel)
            if pages.shape or self.linking or name in self.finished.left:
                return Ahead(pages)
            image = self._image(path, pages, 0)
            # Of several blocks it is told how far they are, and they are kept; two that are small need little memory.
            blocks = self.model.predictor.blocks
            large = isinstance(image, LazyImage) or (blocks is not None and max(image.shape[:2]) > blocks.block)
            return Ahead(pages, image, None if large else self._answer(path, pages, 0, image))
        except Exception as error:
            # It is told when it is this file's turn.
            return Ahead(error=error)

    def do(self, name: str, path: Path, ahead: Ahead, report: Callable[[str, float], None]) -> str:
        """Segments a file, or says why not.

        Args:
            name: of the file.
            path: where it lies.
            ahead: what is known of it.
            report: takes what there is to say of a file that is not done with yet, and which share of it is.

        Returns:
            what there is to say of the file.
        """
        try:
            if ahead.error:
                raise ahead.error
            if ahead.pages is None:
                self.tally.skipped += 1
                return DONE_BEFORE
            return self._pages(name, path, ahead.pages, ahead, report)
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

    def _pages(self, name: str, path: Path, pages: Pages, ahead: Ahead, report: Callable[[str, float], None]) -> str:
        if self.linking:
            self.linking.check(str(path), pages, pixel_size_of(pages, self.options))
        if pages.passed_over:
            self.remarks.passed_over.append(f"{name}: {', '.join(pages.passed_over)}")

        def page_report(page: int, share: float) -> None:
            share = (page + share) / len(pages)
            report(f"{share:.0%}", share)

        done = [self._page(name, path, pages, page, ahead, partial(page_report, page)) for page in range(len(pages))]
        linked, size = "", pixel_size_of(pages, self.options)
        if pages.shape:
            titles = [page_name(name, pages, page) for page in range(len(pages))]
            self.results.stack_pages(name, titles, pages.shape, pages.axes, size)
            if self.linking:
                linked = self.linking.link(self.results, name, titles, pages, size)
        answers = [answer for answer in done if answer is not None]
        self.tally.done += bool(answers or linked)
        self.tally.skipped += not (answers or linked)
        if not answers:
            return linked or DONE_BEFORE
        self.remarks.add(name, answers, whole=len(answers) == len(done))
        notes = filter(None, dict.fromkeys(answer.note for answer in answers))
        total = counted(sum(len(answer.instances) for answer in answers), "object")
        on = f" on {counted(len(answers), 'page')}" if pages.shape else ""
        return ", ".join(filter(None, [f"{total}{on}", *notes, linked]))

    def _page(
        self, name: str, path: Path, pages: Pages, page: int, ahead: Ahead, report: Callable[[float], None]
    ) -> Answer | None:
        """Segments an image of a file, or takes what was found ahead; None where it was done before."""
        title = page_name(name, pages, page)
        if self._is_done(title):
            return None
        image = self._image(path, pages, page) if ahead.image is None else ahead.image
        pixel_size = pixel_size_of(pages, self.options)
        if title in self.finished.left:
            instances = self.finished.objects(self.results, name, title, page)
            image, about = at_size(image, instances.labels.shape, pixel_size)
            about |= {"plane": pages.plane(page)}
            self.results.add(Prediction(title, size_of(image), None, instances, **about), image, self.finished.added)
            self.finished.left.remove(title)
            return None
        store = None
        if not ahead.answer:
            store = BlockStore(self.results.unfinished(title), made_of(path, page, self.model.card, self.options))
        found = ahead.answer or self._answer(path, pages, page, image, report, store)
        image, about = at_size(image, found.instances.labels.shape, pixel_size)
        if found.tissue and isinstance(image, LazyImage):
            self.results.picture("looked_at", title, looked_at(image, found.tissue))
        note = "; ".join(filter(None, [found.note, "" if len(found.instances) else "nothing found"]))
        about |= {"plane": pages.plane(page), "note": note}
        self.results.write(Prediction(title, size_of(image), found.probability, found.instances, **about), image)
        if store:
            store.clear()
        return found

    def _image(self, path: Path, pages: Pages, page: int) -> Image:
        image = pages.open(page)
        if isinstance(image, LazyImage):
            # The label images of a stack have one size.
            coarser = () if pages.shape else image.coarser
            image = replace(image, coarser=coarser, again=partial(open_page, path, self.options.channel, page))
        return nan_filled(image) if self.options.nan == "background" else image

    def _answer(
        self,
        path: Path,
        pages: Pages,
        page: int,
        image: Image,
        report: Callable[[float], None] | None = None,
        store: BlockStore | None = None,
    ) -> Answer:
        pixel_size = pixel_size_of(pages, self.options)
        source = f"{path}, page {page + 1}" if pages.shape else str(path)
        return self.model.answer(
            image,
            in_pixels(self.options.diameter, pixel_size, source, "--diameter"),
            source,
            report,
            self.options.background,
            pixel_size.side if pixel_size else None,
            bool(PROBABILITIES & set(self.results.formats)),
            self.options.everywhere,
            store,
        )

    def _is_done(self, title: str) -> bool:
        return title in self.results.complete and title not in self.finished.left


def _identity(path: Path, model: Model) -> dict[str, str]:
    """What tells the model from others in a folder's settings; those of earlier releases have that of its weights."""
    if path.exists() and b'"weights_sha256"' in path.read_bytes():
        return {"weights_sha256": model.card.weights["sha256"]}
    return {"weights and parameters": model.card.identity}


def _same_settings(options: argparse.Namespace, root: Path, model: Model) -> bool:
    """Whether to go on with what lies in the folder; writes down of which images and with which options it was made.

    Raises:
        DataError: it was made of or with others.
    """
    if options.overwrite and options.shard != WHOLE:
        raise DataError("Shards go on with what others have done: remove the folder of --out, without --overwrite.")
    path = options.out / SETTINGS
    # Where no image could be used, as without the right channel, there is nothing to mix.
    empty = not complete_images(options.out) and not any(options.out.glob("counts.csv.part*"))
    if options.overwrite or (empty and options.shard == WHOLE):
        path.unlink(missing_ok=True)
        forget_links(options.out)
    if options.overwrite:
        shutil.rmtree(options.out / UNFINISHED, ignore_errors=True)
    # What was begun with suffixes goes on with them.
    options.short = options.apart and (not path.exists() or f'"{SHORT}": true'.encode() in path.read_bytes())
    settings = {
        # The same name below another folder is another image.
        "folder of the images": str(root),
        "model": model.card.name,
        **_identity(path, model),
        **{key: getattr(options, key) for key in WAYS},
        "everywhere": options.everywhere or None,
        SHORT: options.short or None,
        "formats": [known for known in get_args(Format) if known in options.formats],
    }
    return resumes(path, settings, "choose another --out, or --overwrite them", free=["formats"])
