"""Which of the images of a TIFF is the one that is meant, and whether regions of it can be read."""

import math

import tifffile

from karyon.errors import DataError
from karyon.io import tiff_regions

# As tifffile calls the formats of whole slides, which have a picture of the slide and of its label beside the image.
SLIDES = {"svs", "ndpi", "scn", "philips", "avs", "qpi", "indica"}


def main_series(file: tifffile.TiffFile, name: str) -> tuple[tifffile.TiffPageSeries, tuple[str, ...]]:
    """The image that a file holds, in full resolution, without thumbnails and without a slide's label and macro.

    Of a set of OME-TIFFs, each of which names the images of all, it is the file's own.

    Returns:
        the image, and the pictures beside it in a slide, in words.

    Raises:
        DataError: it holds several, or none of its own.
    """
    own = [series for series in file.series if all(page is not None and page.parent is file for page in series.pages)]
    if own and own[0].kind in SLIDES:
        main = max(own, key=lambda series: math.prod(series.shape))
        return main, tuple(_in_words(series) for series in own if series is not main)
    described = sum(len(series.pages) for series in file.series)
    planes = len(file.pages)
    if own and planes > described and (planes := sum(not page.aspage().is_reduced for page in file.pages)) > described:
        raise DataError(
            f"{name} has {planes} planes, of which its description names {described}: save it with its true "
            "numbers of channels, slices and frames, such as by Fiji."
        )
    own = [series for series in own if not series.keyframe.is_reduced] or own
    if len(own) > 1:
        sizes = ", ".join(" x ".join(map(str, series.shape)) for series in own[:4])
        raise DataError(f"{name} holds {len(own)} separate images ({sizes}): save each as a file.")
    if own:
        return own[0], ()
    if len(file.pages) > 1:
        raise DataError(
            f"{name} holds some of the planes that its OME-XML names, and the others lie in other files or nowhere: "
            "save the image as one file."
        )
    return tifffile.TiffPageSeries([file.pages.first]), ()


def _in_words(series: tifffile.TiffPageSeries) -> str:
    page = series.keyframe
    return f"{series.name.lower() or 'picture'} ({page.imagewidth} x {page.imagelength} px)"


def can_be_cut(series: tifffile.TiffPageSeries) -> bool:
    """Whether regions of each of a series' planes can be read at each of its resolutions."""
    return all(
        level.axes.endswith(level.keyframe.axes)
        and level.shape[: -len(level.keyframe.axes)] == series.shape[: -len(series.keyframe.axes)]
        and math.prod(level.shape[: -len(level.keyframe.axes)]) == len(level.pages)
        and tiff_regions.can_be_cut(level.keyframe)
        for level in series.levels
    )
