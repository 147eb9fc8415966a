"""``python -m cli convert``: brings annotated images from one tool's layout into another's."""

import argparse
from pathlib import Path

import numpy as np

from cli.batch import DONE_BEFORE, Tally, progress, resumes, stoppable, stopped
from cli.layouts import WRITERS, LayoutWriter
from datamodules.layouts.known import LAYOUTS, find_layout
from datamodules.layouts.protocol import AnnotatedImage
from datamodules.sample import DataError
from lightning_modules.formats.folder import writing_to

LOSSES = (
    "Image files are copied as they are, and every pixel of the label image is kept, holes and parts of objects too; "
    "polygons go along the edges of pixels. What is lost: dsb2018 cannot say that an image holds no object, and has "
    "PNG alone, so that other images are written anew and those of floats are refused; karyon, stardist and cellpose "
    "keep ids (16 bit, 32 bit above 65,535), the others number the objects 1, 2, ... in their order; where polygons or "
    "run lengths overlap, the later object owns the pixels; polygons that do not go along the edges of pixels become "
    "the pixels that they surround; categories, scores and crowd regions are left out."
)


def convert(args: list[str]) -> int:
    """Converts the images that are not converted yet.

    Args:
        args: of the command line, after ``convert``.

    Returns:
        0 if all images are converted, 1 if some could not be, 130 after Ctrl-C, 143 where a scheduler has ended it.

    Raises:
        DataError: nothing can be done: no layout, no image, no place to write to.
    """
    options = _parser().parse_args(args)
    layout = LAYOUTS[options.layout] if options.layout else find_layout(options.source)
    images = layout.images(options.source)
    folder, writer = options.out, WRITERS[options.to]
    _check_place(options.source, folder)
    print(f"{len(images)} images in {options.source}, {layout}; {options.to} in {folder}", flush=True)
    tally = Tally("converted")
    with writing_to(folder), stoppable():
        settings = {"source": str(options.source.resolve()), "from": repr(layout), "to": options.to}
        folder.mkdir(parents=True, exist_ok=True)
        resumes(folder / "convert.json", settings, "choose another --out, or delete it")
        try:
            with progress("Converting", len(images)) as report:
                for image in images:
                    report(image.name, convert_image(image, writer, folder, tally))
            complete = [image.name for image in images if (folder / writer.completing(image.name)).exists()]
            writer.finish(folder, complete)
        except KeyboardInterrupt as stop:
            return stopped(stop, tally)
    return tally.summary()


def convert_image(image: AnnotatedImage, writer: LayoutWriter, folder: Path, tally: Tally) -> str:
    """Converts an image, or says why not; returns what there is to say of it."""
    if (folder / writer.completing(image.name)).exists():
        tally.skipped += 1
        return DONE_BEFORE
    try:
        pixels, labels = image.read()
        writer.write(folder, image, pixels, labels)
    except DataError as error:
        return tally.fail(image.file, str(error))
    except MemoryError:
        return tally.fail(image.file, "it needs more memory than there is.")
    tally.done += 1
    return f"{len(np.unique(labels[labels > 0])):,} objects"


def _check_place(source: Path, folder: Path) -> None:
    """Refuses a folder in which results would be taken for originals, or mixed with files of others."""
    if source.is_dir() and (folder.resolve() == source.resolve() or source.resolve() in folder.resolve().parents):
        raise DataError(f"{folder} lies in {source}, which would be read again with it: choose another --out.")
    if folder.is_dir() and not (folder / "convert.json").exists() and any(folder.iterdir()):
        raise DataError(f"{folder} holds files that are not of this command: choose another --out.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cli convert",
        description=f"{__doc__} {LOSSES} The same command again goes on after a stop. Exit code: 0 all done, 1 some "
        "images failed, 2 nothing can be done, 130 interrupted, 143 ended by a scheduler.",
    )
    parser.add_argument(
        "source", metavar="SOURCE", type=Path, help="folder; also a zip archive of dsb2018, a COCO file"
    )
    parser.add_argument("--to", choices=WRITERS, required=True, help="the layout to write")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument(
        "--from", dest="layout", choices=LAYOUTS, help="the layout of SOURCE; found out where it is not given"
    )
    return parser
