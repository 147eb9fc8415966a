"""Parts of a set of images, segmented by jobs side by side into one folder of results."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from karyon.errors import DataError

PATIENCE = 5.0  # s, in which shards that begin together take their turns


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
        with nullcontext() if self == WHOLE else _locked(folder):
            return decide()

    @contextmanager
    def at_work(self, folder: Path) -> Iterator[None]:
        """Makes the folder of the results, into which nobody else writes while the whole set is in work.

        Raises:
            DataError: somebody does.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder) if self == WHOLE else nullcontext():
            yield

    @property
    def part(self) -> str:
        """Suffix of the tables of this shard; "" of the whole set's."""
        return "" if self == WHOLE else f".part{self.number}of{self.shards}"


WHOLE = Shard(1, 1)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    # A lock that outlives a process that is killed would keep out the one that goes on.
    lock = FileLock(folder / ".lock", fallback_to_soft=False)
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        raise DataError(
            f"{folder} is being written by another segment: wait for its end, choose another --out, or let both share "
            "the files by --shard."
        ) from None
    except OSError as error:
        # There are disks without locks.
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP):
            raise
    try:
        yield
    finally:
        lock.release()
