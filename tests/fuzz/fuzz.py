"""Damages files at random and reads them: whatever comes of that other than a sentence is a fault.

    python tests/fuzz/fuzz.py --minutes 5 --seed 0 --kinds images zips

A number stands for one damaged file, whatever ran before: ``--kinds images --first 4711 --count 1`` makes it again, and
``--keep FOLDER`` leaves it there. Faults are exceptions other than `DataError`, sentences that are none, crashes, more
than 10 s of computing and more than 2 GiB of memory.
"""

# ruff: noqa: E402
import argparse
import math
import multiprocessing
import random
import resource
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "karyon"), str(ROOT / "tests" / "fuzz")]

from targets import TARGETS, Target

from karyon.errors import DataError

SECONDS, MEMORY = 10, 2 * 2**30
HANGS = 60  # s without a word


def attempt(target: Target, number: int, seed: int) -> str:
    """What comes of one damaged file: ``read``, ``refused``, or a fault in words."""
    # Of a text: of a tuple, the hash would differ from process to process.
    rng = random.Random(f"{seed} {number}")
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = "read"
    try:
        target.damage(rng)
        began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        target.read()
    except DataError as error:
        sentence = str(error)
        outcome = "refused" if sentence.isprintable() and sentence.endswith(".") else f"no sentence: {sentence!r}"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in place if str(ROOT) in frame.filename and ".venv" not in frame.filename][-1:] or place
        outcome = f"{type(error).__name__}: {error} at {own[-1].filename}:{own[-1].lineno}"
    spent, taken = time.process_time() - began, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    if spent > SECONDS:
        return f"{spent:.0f} s: {outcome}"
    return f"{taken / 2**30:.1f} GiB: {outcome}" if taken > MEMORY else outcome


def work(kind: str, numbers: range, seed: int, folder: Path, parent: Connection) -> None:
    """In a process of its own: tells the parent each number, and then what has come of it."""
    warnings.simplefilter("ignore")
    target = TARGETS[kind](folder)
    (pages, *_) = map(int, Path("/proc/self/statm").read_text().split())
    limit = pages * resource.getpagesize() + 2 * MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for number in numbers:
        parent.send((number, ""))
        parent.send((number, attempt(target, number, seed)))


def outcomes(kind: str, numbers: range, seed: int, folder: Path) -> Iterator[tuple[int, str]]:
    """The outcome of each number, in whatever way its process ends."""
    while numbers:
        here, there = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.Process(target=work, args=(kind, numbers, seed, folder, there))
        child.start()
        there.close()
        started = False
        try:
            while here.poll(HANGS if started else 10 * HANGS):
                number, outcome = here.recv()
                started = True
                if outcome:
                    numbers = numbers[1:]
                    yield number, outcome
        except EOFError:
            pass
        finally:
            # Also where no more are asked for: it would go on in a folder that is removed.
            child.kill()
            child.join()
        if not started:
            raise RuntimeError(f"The process for {kind} has not begun (exit code {child.exitcode}).")
        if numbers:
            yield numbers[0], f"crash or hang, exit code {child.exitcode}"
            numbers = numbers[1:]


def fuzz(kind: str, numbers: range, seed: int, until: float = math.inf, folder: Path | None = None) -> Counter[str]:
    """Counts the outcomes, and prints faults as they come.

    Args:
        kind: of `targets.TARGETS`.
        numbers: of damaged files.
        seed: of all of them.
        until: s of `time.monotonic` at which no further one is begun.
        folder: for the files, of which the last ones stay; a temporary one by default.
    """
    found: Counter[str] = Counter()
    with TemporaryDirectory() as temporary, closing(outcomes(kind, numbers, seed, folder or Path(temporary))) as tried:
        for number, outcome in tried:
            found[outcome if outcome in ("read", "refused") else "faults"] += 1
            if outcome not in ("read", "refused"):
                print(f"{kind} {number}: {outcome}", flush=True)
            if time.monotonic() > until:
                break
    return found


def main() -> int:
    """Fuzzes each kind for its share of the time; 1 where there were faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5, help="for all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--count", type=int, default=10**9, help="of files of each kind, at most")
    parser.add_argument("--keep", type=Path, help="folder in which the last files stay")
    options = parser.parse_args()
    faults = 0
    for kind in options.kinds:
        until = time.monotonic() + 60 * options.minutes / len(options.kinds)
        numbers = range(options.first, options.first + options.count)
        found = fuzz(kind, numbers, options.seed, until, options.keep)
        print(
            f"{kind}, seed {options.seed}: {found.total()} files from number {options.first}, {dict(found)}", flush=True
        )
        faults += found["faults"]
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
