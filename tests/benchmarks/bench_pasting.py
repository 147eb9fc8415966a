"""Time and memory of pasting 2,000 masks into an image: ``python tests/benchmarks/bench_pasting.py``.

Beside torchvision's `paste_masks_in_image`, whose result is a whole image for each object. Each runs in a process of
its own, so that the peak of its memory can be told from what was there before.
"""

import argparse
import resource
import subprocess
import sys
import time

import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from karyon.detection.pasting import paste_masks

CELLS = 28


def nuclei(count: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes of 14 to 60 px at random places, scores, and masks of a soft disc each."""
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(count, 2, generator=generator) * (size - 60)
    boxes = torch.cat([low, low + 14 + 46 * torch.rand(count, 2, generator=generator)], dim=1)
    places = torch.arange(CELLS) - (CELLS - 1) / 2
    disc = (1.5 - (places[:, None] ** 2 + places**2).sqrt() / (CELLS / 2)).clamp(0, 1)
    return boxes, torch.rand(count, generator=generator), disc.expand(count, -1, -1).clone()


def ours(boxes: Tensor, scores: Tensor, masks: Tensor, size: int) -> int:
    return len(paste_masks(boxes, scores, masks, (size, size), mask_threshold=0.5, min_area=1))


def torchvisions(boxes: Tensor, scores: Tensor, masks: Tensor, size: int) -> int:
    """Without its overlaps being resolved, for which nothing in torchvision is made."""
    return len(paste_masks_in_image(masks[:, None], boxes, (size, size)))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(which: str, count: int, size: int) -> None:
    """Prints the seconds of a call, and by how much it raised the peak of the process's memory, MB."""
    arguments = nuclei(count, size)
    call = {"ours": ours, "torchvision": torchvisions}[which]
    call(*nuclei(2, 64), 64)
    before, start = peak_mb(), time.perf_counter()
    found = call(*arguments, size)
    assert found > count // 2
    print(time.perf_counter() - start, peak_mb() - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--which", choices=("ours", "torchvision"), help="measure one; both, each in a process, if not given"
    )
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--size", type=int, default=2048)
    args = parser.parse_args()
    if args.which:
        measure(args.which, args.count, args.size)
        return
    # The dense result grows with both; where it does not fit into memory, fewer objects are pasted by torchvision.
    free_mb = 0.6 * available_mb()
    theirs_count = min(args.count, int(free_mb / (2 * 4 * args.size**2 / 2**20)))
    figures = {}
    for which, count in (("ours", args.count), ("ours", theirs_count), ("torchvision", theirs_count)):
        command = [sys.executable, __file__, "--which", which, "--count", str(count), "--size", str(args.size)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        seconds, megabytes = figures[which, count] = float(answer[0]), float(answer[1])
        print(f"{which:12s} {count:5d} masks, {args.size} x {args.size} px: {seconds:7.2f} s, {megabytes:8.0f} MB more")
    fast, slow = figures["ours", theirs_count], figures["torchvision", theirs_count]
    print(
        f"torchvision takes {slow[0] / fast[0]:.1f} times as long and {slow[1] / max(fast[1], 1):.0f} times the memory"
    )


def available_mb() -> float:
    """Memory that is free, MB (Linux)."""
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("MemAvailable"))


if __name__ == "__main__":
    main()
