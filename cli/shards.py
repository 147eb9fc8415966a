"""Parts of a set of images, segmented by jobs side by side into one folder of results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from lightning_modules.formats.folder import Format, ResultFolder, drop_parts, merge_parts, shorten


@dataclass(frozen=True)
class Shard:
    """One of several parts of a set, equal but for one image.

    Attributes:
        number: from 1.
        shards: how many there are; where it is one, it is the whole set, and brings together what shards have left.
    """

    number: int
    shards: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Reads ``K/N``.

        >>> Shard.parse("2/3")
        Shard(number=2, shards=3)
        """
        number, shards = map(int, text.split("/"))
        if not 1 <= number <= shards:
            raise ValueError(text)
        return cls(number, shards)

    def of(self, images: dict[str, Path]) -> dict[str, Path]:
        """The images of this shard.

        >>> list(Shard(2, 3).of({name: Path(name) for name in "abcde"}))
        ['b', 'e']
        """
        return dict(list(images.items())[self.number - 1 :: self.shards])

    def decide_once(self, folder: Path, decide: Callable[[], bool]) -> bool:
        """Decides something for all shards, of which many may begin at the same moment: one after the other."""
        if self == WHOLE:
            return decide()
        with FileLock(folder / ".lock"):
            return decide()

    def open_results(self, folder: Path, formats: Sequence[Format], resume: bool) -> ResultFolder:
        """Opens the folder that all shards write into, each with tables of its own.

        Args:
            folder: of the results.
            formats: which to write.
            resume: whether the whole set goes on with what lies there; shards always do.
        """
        part = ""
        if self != WHOLE:
            resume, part = True, f".part{self.number}of{self.shards}"
        elif resume:
            merge_parts(folder)
        else:
            drop_parts(folder)
        return ResultFolder(folder, formats, resume=resume, part=part, stem=_mirrored)


def _mirrored(name: str) -> str:
    """The path of an image's results, which is that of the image below its folder."""
    return "/".join(map(shorten, name.split("/")))


WHOLE = Shard(1, 1)
