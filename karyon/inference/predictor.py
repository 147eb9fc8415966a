"""The one way from a prepared image to its objects, for training, the command line and Python alike."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from karyon import preprocessing
from karyon.errors import DataError
from karyon.inference.block_store import BlockStore
from karyon.inference.blocks import Block, Blocks, Found
from karyon.inference.engines import Engine, Images
from karyon.inference.rotations import VIEWS, turn
from karyon.inference.tissue import Tissue
from karyon.inference.views import AS_IS, Diameter, View, areas_at, choose_view, size_at
from karyon.preprocessing import Image, Region
from karyon.representations.protocol import Maps, Postprocessing

if TYPE_CHECKING:
    from karyon.detection.postprocessing import DetectionPostprocessing

FIRST_LOOK = 2048  # px
# After enlarging: a part tells whether it is worth it, where the whole may cost nine times as much.
ENLARGED_LOOK = 640  # px

Report = Callable[[float], None]
"""Is told which share of an image has been looked at, below 1."""


class ImagePredictor(ABC):
    """Chooses polarity and scale and goes block by block, whatever finds the objects.

    Contrast comes before, in `karyon.preprocessing.Preprocessing`, which training shares.

    Attributes:
        postprocessing: makes objects of what the network finds.
        blocks: how large images are cut; None takes all at once.
        model_diameter: median diameter of the objects that the network knows best, px; None where it is not known.
        origin: the arguments of `karyon.model.load_model` that have made it, as which it goes to another process.
    """

    postprocessing: "Postprocessing | DetectionPostprocessing"
    blocks: Blocks | None
    model_diameter: float | None
    origin: tuple[Any, ...] = ()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (_loaded, self.origin) if self.origin else super().__reduce_ex__(protocol)

    @abstractmethod
    def at_once(
        self, images: Images, sizes: Sequence[tuple[int, int]], scale: float = 1.0, probability: bool = True
    ) -> list[Found]:
        """Finds the objects of prepared images (B, C, H, W), each as a whole.

        Args:
            images: as they are; they are resized here.
            sizes: height and width of each original image, px; objects come back at that size.
            scale: how many times as large they are seen.
            probability: whether the foreground's probability is wanted, where there is one.
        """

    def predict(
        self, images: Images, sizes: Sequence[tuple[int, int]], names: Sequence[str], diameter: Diameter = None
    ) -> list[Found]:
        """Finds the objects of prepared images.

        Args:
            images: (B, C, H, W), prepared.
            sizes: height and width of each original image, px; objects come back at that size.
            names: of the images, for errors.
            diameter: of their objects.

        Raises:
            DataError: an image was resized, and blocks or a diameter keep the original size.
        """
        if self.blocks is None and diameter is None:
            return [self.whole(single) for single in self.at_once(images, sizes)]
        found = []
        for image, size, name in zip(images, sizes, names, strict=True):
            if image.shape[-2:] != size:
                raise DataError(
                    f"{name} was resized, and blocks and a diameter keep the original size: leave out image_size, or "
                    "blocks and the diameter."
                )
            part = partial(_crop, image)
            view, seen = self.look(part, size, diameter, probability=True)
            found.append(self.whole(seen or self.find(part, size, view, probability=True)))
        return found

    def whole(self, found: Found) -> Found:
        """What is left of what was found, once that is all of an image."""
        return found[0], self.postprocessing.whole(found[1])

    def look(
        self,
        part: Callable[[Region], Image],
        size: tuple[int, int],
        diameter: Diameter = None,
        polarities: Sequence[bool] = (False,),
        report: Report | None = None,
        probability: bool = False,
        usual: Callable[[], bool | None] = lambda: None,
        tissue: Tissue | None = None,
        store: BlockStore | None = None,
    ) -> tuple[View, Found | None]:
        """Decides how an image is seen, by first looks at its middle, or its tissue, where that is needed.

        Args:
            part: gives a region of the prepared image, (C, h, w).
            size: height and width of the image, px.
            diameter: of its objects.
            polarities: whether the image is inverted; both where that is to be decided.
            report: is told how far it is.
            probability: whether the foreground's probability is wanted, too.
            usual: see `karyon.inference.views.choose_view`.
            tissue: what of the image is looked at; None is all.
            store: keeps what is found in its blocks.

        Returns:
            the view, and the objects where the look has been at the whole image in just that view.
        """
        looks = count()

        def find(view: View) -> Found:
            before = next(looks)
            # Where the first looks do not suffice, how many follow is not known.
            part_of = report and (lambda share: report(min((before + share) / len(polarities), 1.0)))
            seen = looked_at(size, view.scale)
            middle = (size[0] - seen[0]) // 2, (size[1] - seen[1]) // 2
            top, left = tissue.densest(seen, size) if tissue else middle
            part_there = partial(_shifted, part, top, left)
            return self.find(part_there, seen, view, part_of, probability, store=store and store.of(top, left))

        view, found = choose_view(find, self.model_diameter, diameter, polarities, usual)
        return view, found if looked_at(size, view.scale) == size else None

    def find(
        self,
        part: Callable[[Region], Image],
        size: tuple[int, int],
        view: View = AS_IS,
        report: Report | None = None,
        probability: bool = False,
        tissue: Tissue | None = None,
        store: BlockStore | None = None,
    ) -> Found:
        """Finds the objects of one image, of which regions are prepared when they are needed.

        Args:
            part: gives a region of the prepared image, (C, h, w).
            size: height and width of the image, px.
            view: how it is seen.
            report: is told how far it is.
            probability: whether the foreground's probability is wanted, too.
            tissue: what of the image is looked at; None is all.
            store: keeps what is found in its blocks.
        """
        find = partial(self.find_in, part, view, probability)
        blocks = self.blocks_of(size, view.scale)
        wanted = partial(tissue.touches, size=size) if tissue else _all
        once = store.of(size, view, probability, blocks.block, blocks.halo).once if store else None
        return blocks.find(size, find, probability, wanted, report or _quiet, once)

    def find_in(self, part: Callable[[Region], Image], view: View, probability: bool, block: Block) -> Found:
        """Finds the objects in the region of a block; see `find`."""
        region = part(block.region)
        size = (region.shape[-2], region.shape[-1])
        return self.at_once((1 - region if view.inverted else region)[None], [size], view.scale, probability)[0]

    def blocks_of(self, size: tuple[int, int], scale: float) -> Blocks:
        """How an image of that size, px, is cut where it is seen so many times as large; one block is all of it."""
        return self.blocks.at_scale(scale) if self.blocks else Blocks(-(-max(size) // 32) * 32, 0)


@dataclass
class Predictor(ImagePredictor):
    """Applies a dense network: polarity, scale, blocks, rotations, engine, post-processing, in this order, each once.

    Attributes:
        engine: computes maps.
        postprocessing: finds objects in them.
        rotations: whether maps are averaged over the eight rotations and flips of the image.
        blocks, model_diameter: see `ImagePredictor`.
    """

    engine: Engine
    postprocessing: Postprocessing
    rotations: bool = False
    blocks: Blocks | None = None
    model_diameter: float | None = None

    def at_once(
        self, images: Images, sizes: Sequence[tuple[int, int]], scale: float = 1.0, probability: bool = True
    ) -> list[Found]:
        """Finds the objects of prepared images; see `ImagePredictor.at_once`."""
        maps = self.maps(images, scale)
        return [self.finish(single, size, scale, probability) for single, size in zip(maps, sizes, strict=True)]

    def maps(self, images: Images, scale: float = 1.0) -> NDArray[np.float32]:
        """Maps (B, K, H, W) of images (B, C, H, W), seen so many times as large, turned and flipped where asked."""
        height, width = images.shape[-2:]
        images = rescaled(images, scale)
        if self.rotations:
            back = self.postprocessing.turn_back
            # Added up one by one: eight maps of a large image at once would be eight times the memory.
            total = back(self.engine(turn(images, *VIEWS[0])), *VIEWS[0])
            for view in VIEWS[1:]:
                total = total + back(self.engine(turn(images, *view)), *view)
            maps = total / np.float32(len(VIEWS))
        else:
            maps = self.engine(images)
        if maps.shape[-2:] == (height, width):
            return maps
        return np.stack([self.postprocessing.resize(single, (height, width)) for single in maps])

    def finish(self, maps: Maps, size: tuple[int, int], scale: float = 1.0, probability: bool = True) -> Found:
        """Objects, and the foreground's probability where it is wanted, of maps (K, h, w), at the original size."""
        maps = self.postprocessing.resize(maps, size)
        found = areas_at(scale, self.postprocessing)(maps)
        return self.postprocessing.probability(maps) if probability else None, found


def looked_at(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Height and width of what a first look sees of an image, px, where it is seen so many times as large.

    >>> looked_at((512, 4096), 1), looked_at((512, 4096), 2), looked_at((256, 256), 3)
    ((512, 2048), (320, 320), (213, 213))
    """
    longest = FIRST_LOOK if scale <= 1 else round(ENLARGED_LOOK / scale)
    return min(size[0], longest), min(size[1], longest)


@lru_cache(maxsize=1)
def _loaded(*origin: Any) -> ImagePredictor:
    """The predictor of a model, loaded once in a process that works for another."""
    from karyon.model import load_model

    return load_model(*origin).predictor


def _all(region: Region) -> bool:
    return True


def _quiet(share: float) -> None:
    pass


def _crop(image: Image, region: Region) -> Image:
    return image[(..., *region)]


def _shifted(part: Callable[[Region], Image], top: int, left: int, region: Region) -> Image:
    rows, columns = region
    return part((slice(rows.start + top, rows.stop + top), slice(columns.start + left, columns.stop + left)))


def halves(report: Report | None) -> tuple[Report | None, Report | None]:
    """What takes the shares of the first half of some work, and of the second."""
    if report is None:
        return None, None
    return lambda share: report(share / 2), lambda share: report((1 + share) / 2)


def rescaled(images: Images, scale: float) -> Images:
    """Images (B, C, H, W), so many times as large."""
    height, width = images.shape[-2:]
    if (size := size_at(scale, height, width)) == (height, width):
        return images
    planes = (np.ascontiguousarray(image.transpose(1, 2, 0)) for image in images)
    return np.stack([preprocessing.resize(image, size).transpose(2, 0, 1) for image in planes])
