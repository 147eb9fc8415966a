"""The work of ``convert``: reads images in one layout and writes them in another."""

from pathlib import Path

import numpy as np

from karyon.commands.batch import resumes
from karyon.commands.console import DONE_BEFORE, Tally, counted, progress, stoppable, stopped
from karyon.errors import DataError
from karyon.io.other_formats import passed_over, unread_below
from karyon.io.whole_files import writing_to
from karyon.layouts import LayoutName
from karyon.layouts.all_layouts import LAYOUTS, find_layout
from karyon.layouts.protocol import AnnotatedImage, LayoutWriter


def convert_images(source: Path, name: LayoutName | None, to: LayoutName, folder: Path) -> int:
    """Converts the images that are not converted yet; returns the exit code.

    Args:
        source: a folder, an archive or a COCO file.
        name: of its layout; found out where it is None.
        to: the layout to write.
        folder: where to write it.

    Raises:
        DataError: nothing can be done: no layout, no image, no place to write to.
    """
    layout = LAYOUTS[name] if name else find_layout(source)
    images = layout.images(source)
    writer = LAYOUTS[to].writer
    _check_place(source, folder)
    if said := passed_over(unread_below(source)):
        print(said)
    print(f"{counted(len(images), 'image')} in {source}, {layout}; {to} in {folder}", flush=True)
    tally = Tally("converted")
    with writing_to(folder), stoppable():
        settings = {"source": str(source.resolve()), "from": repr(layout), "to": to}
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
    return counted(len(np.unique(labels[labels > 0])), "object")


def _check_place(source: Path, folder: Path) -> None:
    """Refuses a folder in which results would be taken for originals, or mixed with files of others."""
    if source.is_dir() and (folder.resolve() == source.resolve() or source.resolve() in folder.resolve().parents):
        raise DataError(f"{folder} lies in {source}, which would be read again with it: choose another --out.")
    if folder.is_dir() and not (folder / "convert.json").exists() and any(folder.iterdir()):
        raise DataError(f"{folder} holds files that are not of this command: choose another --out.")
