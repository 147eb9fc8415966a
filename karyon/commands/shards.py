"""Parts of a set of images, segmented by jobs side by side into one folder of results."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


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
        from filelock import FileLock

        with FileLock(folder / ".lock"):
            return decide()

    @property
    def part(self) -> str:
        """Suffix of the tables of this shard; "" of the whole set's."""
        return "" if self == WHOLE else f".part{self.number}of{self.shards}"


WHOLE = Shard(1, 1)
